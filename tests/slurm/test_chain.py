"""Chains that live for years: `submit --update` by a clock, while nodes die, catalogs break and disks fill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.store.verify import find_damage
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.slurm.cluster import Cluster, jobs_of, say, stac2cube, wait_for
from tests.slurm.test_ways import write_recipe

SITE = """
[slurm]
partition = "normal"
jobs = 1
cores = 1
memory = "1GiB"
walltime = "00:20:00"
prologue = [{prologue}]
"""


@dataclass
class Chain:
    """A recipe that a clock submits again and again, over a catalog that grows.

    Attributes:
        cluster: Where.
        archive: All that there will be.
        folder: Of recipe and catalog.
        place: Of `submit`.
        said: What each run said on standard error, in one line.
    """

    cluster: Cluster
    archive: Archive
    folder: Path
    place: str = "threads"
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.items = json.loads(Path(self.archive.catalog("earth-search")).read_text())
        self.dates = sorted({item["properties"]["datetime"][:10] for item in self.items["features"]})
        self.catalog = self.folder / "items.json"
        self.site()
        words = {"time": "2023", "catalog": str(self.catalog), "bands": "[B04, B03, B02, B08]"}
        self.recipe = write_recipe(self.folder, "cubes", self.archive, **words)
        self.recipe.write_text(self.recipe.read_text().replace("quicklook:\nreport:\n", "indices: {names: [ndvi]}\n"))

    @property
    def cube(self) -> Path:
        return self.folder / "cubes" / "layers.zarr"

    def site(self, prologue: str = "true") -> None:
        sites = Path(os.environ["STAC2CUBE_CONFIG_DIR"]) / "sites"
        sites.mkdir(parents=True, exist_ok=True)
        (sites / "weekly.toml").write_text(SITE.format(prologue=json.dumps(prologue)))

    def publish(self, dates: int) -> None:
        """The catalog as it is when so many dates have passed."""
        known = set(self.dates[:dates])
        shown = [item for item in self.items["features"] if item["properties"]["datetime"][:10] in known]
        self.catalog.write_text(json.dumps({**self.items, "features": shown}))

    def run(self, *words: str) -> tuple[int, dict[str, str], str]:
        """What cron does: exit code, jobs, and what it would mail."""
        done = stac2cube(
            "submit", self.recipe, "--site", "weekly", "--place", self.place, "--update", "--keep", "3", *words,
            check=False, cwd=self.folder,
        )  # fmt: skip
        self.said.append(" ".join(done.stderr.split()))
        assert "Traceback" not in done.stderr
        return done.returncode, jobs_of(done.stdout), done.stdout + done.stderr

    def finish(self) -> None:
        """Wait for the jobs; a requeued one need not wait for its two minutes."""
        give_up = time.monotonic() + 900
        while jobs := say("squeue", "-h", "-o", "%i %r").split("\n")[:-1]:
            assert time.monotonic() < give_up, jobs
            for job, reason in (line.split(maxsplit=1) for line in jobs):
                if "BeginTime" in reason:
                    time.sleep(2)
                    say("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)
            time.sleep(0.3)

    def undisturbed(self) -> Path:
        """The same recipe, in one go."""
        self.publish(len(self.dates))
        other = self.recipe.with_name("at-once.yaml")
        other.write_text(self.recipe.read_text().replace("cubes: cubes", "cubes: at-once"))
        stac2cube("run", other, "-q")
        return self.folder / "at-once"

    def assert_whole(self) -> None:
        """What the chain has made is what one build makes, and no step is damaged."""
        reference = self.undisturbed()
        for name in ("layers.zarr", "indices.zarr"):
            assert differences(self.cube.parent / name, reference / name) == [], name
            assert find_damage(self.cube.parent / name) == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), ArchiveSpec(years=(2023,), dates_per_year=6, tile_px=96))


def take_node(chain: Chain, job: str) -> None:
    """The node of a job that runs goes down; another week it is there again."""
    chain.cluster.wait_state(job, "RUNNING", "COMPLETED", "FAILED")
    if node := chain.cluster.node_of(job):
        say("scontrol", "update", f"nodename={node}", "state=down", "reason=test", check=False)


def mend_nodes(chain: Chain) -> None:
    for node in ("node1", "node2", "node3", "node4"):
        say("scontrol", "update", f"nodename={node}", "state=resume", check=False)


def test_some_weeks_of_a_chain(cluster: Cluster, archive: Archive) -> None:
    chain = Chain(cluster, archive, cluster.work / "my archive")
    chain.publish(2)
    code, jobs, _ = chain.run()
    assert (code, list(jobs)) == (0, ["layers", "indices"])
    # A run that overlaps is refused with the job that is at it.
    code, again, said = chain.run()
    assert (code, again) == (1, {})
    assert any(job in said for job in jobs.values())
    assert len(said.splitlines()) == 1
    chain.finish()

    # Nothing new: nothing is submitted, whoever asks.
    code, jobs, said = chain.run()
    assert (code, jobs) == (0, {})
    assert said.splitlines()[0] == f"{chain.cube.parent}: nothing new, nothing was submitted"
    assert json.loads(chain.run("--json", "-q")[2]) == {"jobs": {}, "logs": None}

    # The catalog is half there.
    chain.publish(4)
    whole = chain.catalog.read_text()
    chain.catalog.write_text(whole[: len(whole) // 2])
    code, jobs, said = chain.run("-q")
    assert (code, jobs, len(said.splitlines())) == (1, {}, 1)
    chain.catalog.write_text(whole)

    # A node dies under the job, and the job that comes after it is cancelled: the next week mends both.
    code, jobs, _ = chain.run()
    take_node(chain, jobs["layers"])
    say("scancel", jobs["indices"])
    chain.finish()
    mend_nodes(chain)
    assert read_root(chain.cube).steps == 4
    chain.publish(len(chain.dates))
    code, jobs, said = chain.run("-q")
    assert (code, list(jobs)) == (0, ["layers", "indices"])
    assert f"the last submission: indices {json.loads(last(chain, 1).read_text())['jobs']['indices']} CANCELLED" in said
    chain.finish()
    assert chain.run("-q") == (0, {}, ""), "cron mails nothing"
    assert len(list(chain.cube.parent.glob("jobs/*"))) == 3, "logs of earlier runs are gone"
    chain.assert_whole()


def last(chain: Chain, back: int) -> Path:
    """What was written down of a submission, counted from the newest."""
    return sorted(chain.cube.parent.glob("jobs/*/submission.json"))[-1 - back]


@pytest.fixture
def disk(cluster: Cluster) -> Iterator[Callable[[int], Path]]:
    """A small disk that all nodes see, of so many KiB; asked again, it has that size and what is on it."""
    folder = cluster.work / "disk"
    folder.mkdir()

    def of(kib: int) -> Path:
        again = "remount," if folder.is_mount() else ""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{again}size={kib}k", "tmpfs", folder], check=True)
        return folder

    yield of
    cluster.mend()  # a job that is left would write there
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_year_of_weekly_runs(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, disk: Callable[[int], Path]
) -> None:
    """52 weeks, a new date every month, disturbances in between; the cube of one undisturbed build."""
    spec = ArchiveSpec(years=(2023,), dates_per_year=26, tile_px=96)
    chain = Chain(cluster, simulate(tmp_path_factory.mktemp("year"), spec), disk(400_000) / "archive")
    shown = 1
    told = {"submitted": 0, "nothing new": 0, "refused": 0}
    disturbances = dict.fromkeys(
        ("node dies", "catalog broken", "disk full", "other version", "cancelled", "overlap"), 0
    )
    begun = time.monotonic()
    other = tmp_path_factory.mktemp("other-version")
    (other / "sitecustomize.py").write_text('import stac2cube.version as v; v.__version__ = "0.9.9"\n')
    for week in range(52):
        kind = {3: "node dies", 7: "catalog broken", 11: "disk full", 15: "other version"}.get(week % 16, "")
        kind = {20: "cancelled", 36: "cancelled", 48: "cancelled", 24: "overlap", 28: "overlap"}.get(week, kind)
        chain.place = "slurm" if week % 10 == 4 else "threads"
        if kind:
            disturbances[kind] += 1
        shown += bool(kind) or week % 8 == 1  # something to disturb, and what is new in quiet weeks
        chain.publish(shown)
        if kind == "catalog broken":
            chain.catalog.write_text(chain.catalog.read_text()[:-100])
        if kind == "disk full":
            used = int(say("df", "--output=used", chain.folder).split()[-1])
            disk(used + 96)
        chain.site(f"export PYTHONPATH={other}:$PYTHONPATH" if kind == "other version" else "true")
        code, jobs, said = chain.run()
        if code == 1 and kind in ("catalog broken", "disk full"):
            told["refused"] += 1
        else:
            assert code == 0, (week, kind, said)
            told["submitted" if jobs else "nothing new"] += 1
        if jobs and kind == "node dies":
            take_node(chain, jobs["layers"])
        if jobs and kind == "cancelled":
            cluster.wait_state(jobs["layers"], "RUNNING", "COMPLETED")
            stac2cube("cancel", chain.recipe)
        if jobs and kind == "overlap":
            assert chain.run()[0] == 1
        chain.finish()
        mend_nodes(chain)
        disk(400_000)
    chain.publish(len(chain.dates))
    chain.place = "threads"
    runs = 0
    while (result := chain.run())[1]:
        runs += 1
        assert runs < 4, result
        chain.finish()
    chain.assert_whole()
    folders = list(chain.cube.parent.glob("jobs/*"))
    warned = [said for said in chain.said if "the last submission" in said]
    root = read_root(chain.cube)
    lines = [
        f"52 weeks in {time.monotonic() - begun:.0f} s: {told}, {disturbances}, {runs} runs more",
        f"{len(warned)} warnings of the last run, {len(folders)} submissions left of {told['submitted'] + runs}",
        f"{root.steps} steps in {root.commit} commits",
        *(line[:300] for line in chain.said if line),
    ]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert told["nothing new"] >= 10
    assert all(disturbances.values())


def test_of_two_at_the_same_moment_one_goes_on(cluster: Cluster, archive: Archive) -> None:
    chain = Chain(cluster, archive, cluster.work / "race")
    chain.publish(1)
    words = ["submit", chain.recipe, "--site", "weekly", "--place", "threads", "--json"]
    both = [subprocess.Popen([sys.executable, "-m", "stac2cube", *map(str, words)], cwd=chain.folder,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]  # fmt: skip
    ends = [(process.communicate(), process.returncode) for process in both]
    codes = sorted(code for _, code in ends)
    assert codes == [0, 1], ends
    refused = next(said for (_, said), code in ends if code == 1)
    assert "is being submitted just now" in refused or "is being built already" in refused
    wait_for(lambda: len(say("squeue", "-h", "-o", "%i").split()) <= 3, 30, "one submission")
    chain.finish()
