"""Job scripts as text: every value is one word for the shell, and none is a line of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stac2cube.errors import BadInputError
from stac2cube.jobs import script
from stac2cube.places.script import Body, directive, job_script, quoted, safe_name
from stac2cube.places.slurm import Slurm

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
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    ("words", "worker", "controller", "tasks"),
    [
        ({}, ["--mem=8192M"], ["--mem=4096M"], ["--mem-per-cpu=2048M"]),
        ({"memory_as": "mem-per-cpu"}, ["--mem-per-cpu=2048M"], ["--mem-per-cpu=4096M"], ["--mem-per-cpu=2048M"]),
        ({"memory_as": "mem-per-gpu"}, ["--mem-per-gpu=8192M"], ["--mem-per-gpu=4096M"], ["--mem-per-gpu=8192M"]),
        ({"memory_as": "all"}, ["--mem=0"], ["--mem=0"], ["--mem=0"]),
        ({"memory_as": "none"}, [], [], []),
        ({"directives": ("--mem-per-cpu=1G",)}, *[["--mem-per-cpu=1G"]] * 3),
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


def test_of_several_clusters_worker_jobs_run_on_that_of_their_controller() -> None:
    place = Slurm(clusters="a,b")
    assert place.beside_this_job({"SLURM_JOB_ID": "1", "SLURM_CLUSTER_NAME": "b"}) == "b"
    with pytest.raises(BadInputError, match="need one cluster, not a,b"):
        place.beside_this_job({})
    assert Slurm(clusters="a").beside_this_job({}) == "a"
