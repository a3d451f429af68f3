"""What ``doctor --bug-report`` prints: enough to understand a fault, and no key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from stac2cube.build.loop import build
from stac2cube.cli import cli
from stac2cube.executors import doctor
from stac2cube.executors.base import Threads
from stac2cube.version import __version__
from tests.build.toy import SPEC, Make, steps

KEYS = {
    "CDSE_S3_SECRET_KEY": "s3cret-of-the-environment",
    "GDAL_HTTP_USERPWD": "anna:opensesame",
    "AWS_SESSION_TOKEN": "session-token-of-aws",
}
LOG = """
reading https://data.example/a.tif?token=key-in-an-address&x=1 for https://anna:password-in-an-address@stac.example/v1
Authorization: Bearer behind-a-word
{"access_token": "in-a-json"}
api-key = in-a-setting and more
the step toy_0003 failed: s3cret-of-the-environment was refused
"""


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """A cube with a failed step, and the logs of jobs that made it."""
    cube = tmp_path / "layers.zarr"
    build(cube, SPEC, steps(range(4)), Make(failing=(3,)), Threads(1))
    jobs = tmp_path / "jobs" / "20261130-010203"
    jobs.mkdir(parents=True)
    (jobs / "layers-4711.out").write_text("an early line\n" * 100 + LOG)
    told = {"folder": str(jobs), "recipe": "alps.yaml", "site": "example", "clusters": "", "jobs": {}, "made": "now"}
    (jobs / "submission.json").write_text(json.dumps(told))
    return cube


def test_it_holds_versions_ledger_and_logs_and_no_key(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(cli, ["doctor", "--bug-report", str(cube)], catch_exceptions=False)
    assert done.exit_code == 0
    said = done.output
    assert f"stac2cube {__version__}" in said
    assert "GDAL 3." in said
    assert "\nxarray 20" in said
    assert "toy_0003 failed" in said
    assert "block of 3 cannot be made" in said, "the reason of the ledger"
    assert "AWS_SESSION_TOKEN is set" in said
    assert "layers-4711.out" in said
    assert said.count("an early line") < doctor.LINES
    assert "reading https://data.example/a.tif?x=1 for https://stac.example/v1" in said, "what is no key stays"
    hidden = [
        *KEYS.values(),
        "key-in-an-address",
        "password-in-an-address",
        "behind-a-word",
        "in-a-json",
        "in-a-setting",
    ]
    assert [key for key in hidden if key in said] == []


def test_it_needs_no_cube_and_bears_one_that_is_damaged(cube: Path) -> None:
    alone = CliRunner().invoke(cli, ["doctor", "--bug-report"], catch_exceptions=False)
    assert (alone.exit_code, "== cube" in alone.output) == (0, False)
    (cube / "zarr.json").write_text("{")
    said = doctor.bug_report(cube, [cube / "no.log"])
    assert "== cube" in said
    assert "cannot be read" in said.partition("no.log")[2]


def test_a_path_alone_is_refused(cube: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", str(cube)])
    assert "--folder" in str(done.exception)
