"""Job scripts as text: every value is one word for the shell, and none is a line of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stac2cube.errors import BadInputError
from stac2cube.executors.jobs import script
from stac2cube.executors.queue import Body, directive, job_script, python_words, quoted, safe_job_name
from stac2cube.executors.slurm import Slurm
from stac2cube.executors.worker import wait_for_file

AWKWARD = [
    "my project",
    "anna's",
    "100%j",
    'a "b"',
    "back\\slash",
    "#1",
    "$HOME",
    "`id`",
    "a;b",
    "Zürich",
    "-n",
    "!x",
    "*",
]


def as_bash_reads(word: str) -> str:
    return subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("value", [*AWKWARD, ""])
def test_the_shell_reads_a_value_as_one_word(value: str) -> None:
    assert as_bash_reads(f"x{quoted(value)}") == f"x{value}"


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20))
def test_the_shell_reads_any_value_as_one_word(value: str) -> None:
    assert as_bash_reads(f"x{quoted(value)}") == f"x{value}"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\tb", "a\x00b", "a\x1b[2Jb", "a\x7f", "a\x85b", "a\u2028b"])
def test_control_characters_are_refused_wherever_they_come_from(value: str) -> None:
    with pytest.raises(BadInputError, match="control character"):
        quoted(value)
    for name in ("partition", "account", "python", "interface", "logs", "clusters"):
        with pytest.raises(BadInputError, match="control character"):
            Slurm(**{name: value})
    with pytest.raises(BadInputError, match="control character"):
        Slurm(directives=(f"--comment={value}",))
    for command, folder in ((["run", value], Path("/c/jobs/1")), (["run"], Path(f"/{value}/jobs/1"))):
        with pytest.raises(BadInputError, match="control character"):
            script(Slurm(), "layers", command, folder)


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--qos=high", "--qos=high"),
        ("--comment=two words", '--comment="two words"'),
        ('--comment="two words"', '--comment="two words"'),
        ("--comment='it is'", '--comment="it is"'),
        ("-C haswell", "-C haswell"),
        ("--mail-type END,FAIL", "--mail-type END,FAIL"),
        ("--exclusive", "--exclusive"),
        ("--constraint=[a|b]&c", '--constraint="[a|b]&c"'),
        ("--reservation=#1", '--reservation="#1"'),
        ("--nodelist=node[1-2]", '--nodelist="node[1-2]"'),
    ],
)
def test_directives_as_people_write_them(option: str, line: str) -> None:
    assert directive(option) == line


@pytest.mark.parametrize("name", AWKWARD)
def test_a_folder_is_no_pattern_of_sbatch(name: str) -> None:
    folder = Path("/data") / name
    if "\\" in name:
        with pytest.raises(BadInputError, match="a folder with a backslash"):
            job_script("x", "x", [], Body((), ["true"]), folder)
        return
    lines = job_script("x", f"x-{name}", [], Body((), ["true"]), folder).text.splitlines()
    assert f"#SBATCH --chdir={quoted(str(folder))}" in lines
    assert f"#SBATCH --output={quoted(str(folder).replace('%', '%%') + '/%x-%j.out')}" in lines
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("name", "safe"), [("Zürich 1%", "Zurich_1_"), ("a/../b", "a_.._b"), ("東", "_"), ("a-1.x", "a-1.x")]
)
def test_names_of_jobs_and_their_files(name: str, safe: str) -> None:
    assert safe_job_name(name) == safe


@pytest.mark.parametrize(
    ("words", "worker", "controller", "tasks"),
    [
        ({}, ["--mem=8192M"], ["--mem=4096M"], ["--mem-per-cpu=2048M"]),
        ({"memory_as": "mem-per-cpu"}, ["--mem-per-cpu=2048M"], ["--mem-per-cpu=4096M"], ["--mem-per-cpu=2048M"]),
        ({"memory_as": "mem-per-gpu"}, ["--mem-per-gpu=8192M"], ["--mem-per-gpu=4096M"], ["--mem-per-gpu=8192M"]),
        ({"memory_as": "all"}, ["--mem=0"], ["--mem=0"], ["--mem=0"]),
        ({"memory_as": "none"}, [], [], []),
        ({"directives": ("--mem-per-cpu=1G",)}, *[["--mem-per-cpu=1G"]] * 3),
        ({"directives": ("#SBATCH --mem-per-cpu=1G",)}, *[["--mem-per-cpu=1G"]] * 3),
        ({"directives": ("  --qos=high --mem-per-cpu=1G ",)}, *[["--mem-per-cpu=1G"]] * 3),
        ({"directives": ("--mem 4G",)}, *[["--mem"]] * 3),
        ({"directives": ("--mem-bind=local",)}, ["--mem=8192M", "--mem-bind=local"],
         ["--mem=4096M", "--mem-bind=local"], ["--mem-per-cpu=2048M", "--mem-bind=local"]),
    ],
)  # fmt: skip
def test_memory_is_asked_for_once_in_the_sites_form(
    words: dict[str, object], worker: list[str], controller: list[str], tasks: list[str]
) -> None:
    place = Slurm(cores=4, **words)
    texts = [place.worker_script("w", "tls://a:1", Path("/k"), Path("/l")).text]
    texts += [script(place, "layers", ["run"], Path("/c/jobs/1"), way=way).text for way in ("slurm", "allocation")]
    found = [[w for w in text.split() if w.startswith("--mem") and w != "--memory"] for text in texts]
    assert all(("--gres=gpu:1" in text) == ("mem-per-gpu" in words.values()) for text in texts), "refused without a GPU"
    assert found == [worker, controller, tasks]
    assert ("--memory 0" in texts[0]) == place.takes_what_it_gets


def test_a_memory_form_that_is_none() -> None:
    with pytest.raises(BadInputError, match="memory_as 'per-core': one of mem, "):
        Slurm(memory_as="per-core")


def test_directives_come_last_and_sites_without_requeue_are_let_be() -> None:
    text = script(Slurm(directives=("--no-requeue", "--time=5")), "layers", ["run"], Path("/c/jobs/1")).text
    assert "--requeue" not in text.replace("--no-requeue", "")
    assert text.index("--time=5") > text.index("--time=01:00:00")


def test_libraries_start_no_threads_of_their_own_in_jobs_unless_the_site_says_so() -> None:
    lines = script(
        Slurm(prologue=("export OMP_NUM_THREADS=2",)), "layers", ["run"], Path("/c/jobs/1")
    ).text.splitlines()
    assert lines.index("export OMP_NUM_THREADS=1") < lines.index("export OMP_NUM_THREADS=2")


RUN = ["run", "/c/jobs/1/recipe.yaml"]


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("/opt/envs/s2c/bin/python", "exec /opt/envs/s2c/bin/python"),
        ("micromamba run -n s2c python", "exec micromamba run -n s2c python"),
        ("conda run --no-capture-output -n s2c python", "exec conda run --no-capture-output -n s2c python"),
        ("apptainer exec --bind /data /p/s2c.sif python", "exec apptainer exec --bind /data /p/s2c.sif python"),
        ("'/opt/my env/bin/python'", 'exec "/opt/my env/bin/python"'),
    ],
)
def test_python_of_jobs_from_every_kind_of_environment(python: str, words: str) -> None:
    place = Slurm(python=python)
    for text in (
        script(place, "layers", RUN, Path("/c/jobs/1")).text,
        place.worker_script("w", "tls://a:1", Path("/k"), Path("/l")).text,
    ):
        assert re.search(rf"^{re.escape(words)} (-s )?-m stac2cube", text, re.MULTILINE), text


def test_a_home_is_filled_in_where_a_script_would_quote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    place = Slurm(python="~/bin/apptainer exec docker://x python", logs="~/logs")
    assert place.logs == "/home/anna/logs"
    assert python_words(place.python)[:3] == ["/home/anna/bin/apptainer", "exec", "docker://x"]


def test_an_interface_that_this_machine_lacks_is_named() -> None:
    from stac2cube.executors.dask import own_address  # importing dask takes long

    with pytest.raises(BadInputError, match=r"interface 'ib7' of the site, on .*ib7"):
        own_address("ib7")
    assert own_address("lo") == "127.0.0.1"


def test_a_path_with_a_space_that_is_there_is_one_word(tmp_path: Path) -> None:
    python = tmp_path / "my env" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    assert python_words(str(python), "-V")[0] == str(python)
    with pytest.raises(BadInputError, match="No closing quotation"):
        python_words("apptainer exec 'x python")


def run_script(lines: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A job's script as its node runs it: in a shell that knows nothing of a person's own."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    text = "\n".join(["set -u", *lines])
    return subprocess.run(["bash", "-c", text], env=clean, capture_output=True, text=True, check=False, cwd="/")


def test_module_is_known_in_jobs_without_their_persons_environment(tmp_path: Path) -> None:
    text = "\n".join(Body(("module purge", "module load python"), ["true"]).lines(tmp_path))
    assert text.index("/etc/profile.d") < text.index("module purge")
    assert "/etc/profile.d" not in "\n".join(Body(("export A=1",), ["true"]).lines(tmp_path))
    # A purge that takes everything from PATH does not matter to a program with its full path.
    purge = 'module() { [ "$1" = purge ] && PATH=/nowhere; }'
    words = [sys.executable, "-c", "import sys; print(sys.flags.no_user_site)"]
    done = run_script(Body((purge, "module purge"), words).lines(tmp_path), tmp_path)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_a_job_waits_for_a_recipe_that_its_node_does_not_see_yet(tmp_path: Path) -> None:
    late = tmp_path / "my jobs" / "recipe.yaml"
    late.parent.mkdir()
    lines = Body((f"(sleep 1.5; touch '{late}') &",), ["ls", str(late)], awaits=[late]).lines(tmp_path)
    done = run_script(lines, tmp_path)
    assert done.returncode == 0
    assert 1 <= done.stderr.count(f"waiting for {late}, which this node does not see yet") <= 4
    jobs = script(Slurm(), "layers", RUN, Path("/c/jobs/1")).text
    assert "[ -e /c/jobs/1/recipe.yaml ]" in jobs


def test_the_key_of_a_run_is_waited_for_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wait_for_file(tmp_path / "certificate.pem", seconds=0.5)
    said = capsys.readouterr().err
    assert "waiting for" in said
    assert "did not appear within 0 s" in said
    (tmp_path / "certificate.pem").touch()
    wait_for_file(tmp_path / "certificate.pem", seconds=0)
    assert capsys.readouterr().err == ""


def test_of_several_clusters_worker_jobs_run_on_that_of_their_controller() -> None:
    place = Slurm(clusters="a,b")
    assert place.beside_this_job({"SLURM_JOB_ID": "1", "SLURM_CLUSTER_NAME": "b"}) == "b"
    with pytest.raises(BadInputError, match="need one cluster, not a,b"):
        place.beside_this_job({})
    assert Slurm(clusters="a").beside_this_job({}) == "a"
