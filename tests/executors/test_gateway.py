"""The place Gateway over a real Dask Gateway: the pixels that threads make, and no cluster left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import psutil
import pytest
from distributed import LocalCluster

from stac2cube.build.loop import build
from stac2cube.errors import BadInputError, GatewayError, TableError
from stac2cube.executors import gateway as room
from stac2cube.executors.base import Threads
from stac2cube.executors.gateway import Gateway
from stac2cube.executors.site import find_site
from stac2cube.store.reader import differences, open_cube
from stac2cube.testing.archive import Archive
from stac2cube.version import __version__
from tests.build.toy import SPEC, Make, steps
from tests.executors import scenario
from tests.servers.dask_gateway import PASSWORD, REPOSITORY, DaskGateway
from tests.stages.hungry import FEAST, SNACK, Meal
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def server(dask_gateway: DaskGateway) -> Iterator[DaskGateway]:
    """The gateway, with dask configured as a person would."""
    with dask.config.set(dask_gateway.configuration()):
        yield dask_gateway


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return scenario.archive_at(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def reference(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    scenario.make(folder, archive, Threads(2))
    build(folder / "toy.zarr", SPEC, steps(range(6)), Make(), Threads(2))
    return folder


@pytest.fixture(scope="module")
def running(server: DaskGateway) -> Iterator[str]:
    """Name of a cluster that somebody else has started."""
    with server.cluster(2) as name:
        yield name


def workers_of(server: DaskGateway, cluster: str) -> list[psutil.Process]:
    """Worker processes, found by their working directory."""
    here = str(server.folder / cluster)
    found = [process for process in psutil.process_iter(["cwd", "cmdline"]) if process.info["cwd"] == here]
    return [process for process in found if "distributed.cli.dask_worker" in process.info["cmdline"]]


def begun(cube: Path, step: str) -> bool:
    """Whether a block of a step is staged."""
    return any(f"/{step}/" in str(path) and "/c/0/" in str(path) for path in scenario.staged(cube))


def environment(server: DaskGateway, folder: Path) -> dict[str, str]:
    """Of a program of its own that uses the gateway."""
    server.write_configuration(folder)
    return os.environ | {"DASK_CONFIG": str(folder), "PYTHONPATH": str(REPOSITORY)}


def test_a_new_cluster_makes_the_same_cubes_and_is_gone(
    server: DaskGateway, archive: Archive, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    place = Gateway(workers=1, adaptive=True, options={"worker_cores": 2, "worker_memory": 0.9})
    assert place.parallel == 2
    build(Path("toy.zarr"), SPEC, steps(range(6)), Make(), place)
    assert differences(tmp_path / "toy.zarr", reference / "toy.zarr") == [], "by a relative path, too"
    assert not server.clusters()
    assert dict(os.environ) == before
    assert PASSWORD not in repr(place)


@pytest.mark.parametrize("way", ["name", "environment", "site"])
def test_a_running_cluster_is_used_and_left_alone(
    server: DaskGateway,
    running: str,
    archive: Archive,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    place = Gateway(cluster=running)
    if way == "environment":
        monkeypatch.setenv("DASK_CLUSTER", running)
        place = Gateway()
    elif way == "site":
        monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
        (tmp_path / "sites").mkdir()
        page = f'[gateway]\naddress = "{server.address}"\nauth = "basic"\ncluster = "{running}"\n'
        (tmp_path / "sites" / "hub.toml").write_text(page)
        place = find_site("hub").gateway
        assert (place.address, place.auth) == (server.address, "basic")
    if way == "name":
        scenario.make(tmp_path, archive, place)
        scenario.assert_same(tmp_path, reference)
    else:
        build(tmp_path / "toy.zarr", SPEC, steps(range(6)), Make(), place)
        assert differences(tmp_path / "toy.zarr", reference / "toy.zarr") == []
    assert server.clusters() == {running: "RUNNING"}
    assert len(workers_of(server, running)) == 2


def test_a_scheduler_by_its_address(reference: Path, tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=":0") as it:
        build(tmp_path / "toy.zarr", SPEC, steps(range(6)), Make(), Gateway(cluster=it.scheduler_address))
        assert len(it.scheduler_info["workers"]) == 1, "it is left alone"
    assert differences(tmp_path / "toy.zarr", reference / "toy.zarr") == []


@pytest.mark.soak
@pytest.mark.parametrize("meal", [SNACK, FEAST], ids=["snack", "feast"])
def test_workers_compose_a_cube_ten_times_as_large_as_their_memory(
    server: DaskGateway, running: str, tmp_path: Path, meal: Meal
) -> None:
    place = Gateway(cluster=running)
    peak = meal.take(tmp_path, place, lambda: [worker.pid for worker in workers_of(server, running)])
    assert peak.processes == 2


def test_a_lost_worker_is_replaced(server: DaskGateway, running: str, reference: Path, tmp_path: Path) -> None:
    victims = wait_for(lambda: workers_of(server, running), "a worker")
    killer = threading.Timer(1.0, victims[0].kill)
    killer.start()
    summary = build(tmp_path / "toy.zarr", SPEC, steps(range(6)), Make(pause=0.1), Gateway(cluster=running))
    killer.join()
    assert not summary.failed
    assert differences(tmp_path / "toy.zarr", reference / "toy.zarr") == []
    wait_for(lambda: len(workers_of(server, running)) == 2, "two workers")


def test_workers_with_another_stac2cube_are_refused(
    server: DaskGateway, running: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "__version__", "9.9")
    with pytest.raises(GatewayError, match=rf"need stac2cube 9\.9.*has {re.escape(__version__)}.*choose an image"):
        build(tmp_path / "toy.zarr", SPEC, steps(range(2)), Make(), Gateway(cluster=running))
    assert running in server.clusters()


def test_workers_without_stac2cube_are_refused_and_their_cluster_is_stopped(
    server: DaskGateway, tmp_path: Path
) -> None:
    (tmp_path / "stac2cube.py").write_text("raise ModuleNotFoundError(\"No module named 'stac2cube'\")")
    place = Gateway(workers=1, options={"pythonpath": str(tmp_path)})
    with pytest.raises(GatewayError, match=r"need stac2cube.*has none \(No module named 'stac2cube'\)"):
        build(tmp_path / "toy.zarr", SPEC, steps(range(2)), Make(), place)
    assert not {name: state for name, state in server.clusters().items() if state != "RUNNING"}
    assert len(server.clusters()) <= 1, "the running cluster of the others, if it is up"


def test_a_cluster_that_ends_is_one_clear_error(server: DaskGateway, tmp_path: Path) -> None:
    with server.cluster(1) as name:

        def end() -> None:
            wait_for(lambda: begun(tmp_path / "toy.zarr", "toy_0000"), "a block of the first step")
            with dask.config.set(server.configuration()), room.gateway_server() as gateway:
                gateway.stop_cluster(name)

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(GatewayError, match=f"cluster {name} (is stop|ended)"):
            build(tmp_path / "toy.zarr", SPEC, steps(range(40)), Make(pause=0.2), Gateway(cluster=name))
        ending.join()


def test_ctrl_c_seals_what_is_finished_and_stops_the_cluster(
    server: DaskGateway, reference: Path, tmp_path: Path
) -> None:
    cube = tmp_path / "toy.zarr"
    words = ["-m", "tests.slurm.driver", str(cube), "--steps", "6", "--pause", "0.1", "--place", "gateway"]
    program = subprocess.Popen(
        [sys.executable, *words, "--jobs", "1"], env=environment(server, tmp_path), cwd=REPOSITORY
    )
    try:
        wait_for(lambda: begun(cube, "toy_0001"), "a block of the second step")
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 10
    finally:
        program.kill()
    assert len(server.clusters()) <= 1
    sealed = open_cube(cube).sizes["time"]
    assert 1 <= sealed < 6
    build(cube, SPEC, steps(range(6)), Make(), Threads(2))
    assert differences(cube, reference / "toy.zarr") == []


def test_a_second_ctrl_c_ends_the_command_at_once_and_stops_the_cluster(
    server: DaskGateway, archive: Archive, tmp_path: Path
) -> None:
    before = set(server.clusters())
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(archive.area()))
    words = ["layers", str(tmp_path / "c.zarr"), "--mission", "sentinel-2-l2a", "--aoi", str(area), "--time", "2023"]
    words += ["--catalog", str(archive.catalog("earth-search")), "--place", "gateway", "--workers", "1"]
    program = subprocess.Popen(
        [sys.executable, "-m", "stac2cube", *words],
        env=environment(server, tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert wait_for(lambda: set(server.clusters()) - before, "the new cluster")
        for _ in range(2):
            program.send_signal(signal.SIGINT)
            time.sleep(0.2)
        _, said = program.communicate(timeout=900)
    finally:
        program.kill()
    assert program.returncode == 10, said
    assert "Traceback" not in said
    assert not set(server.clusters()) - before  # one of an earlier test may have ended meanwhile


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"options": {"colour": "red"}}, "no cluster option 'colour': its options are worker_cores, worker_memory"),
        ({"options": {"worker_cores": 99}}, "refuses worker_cores = 99"),
        ({"cluster": "nobody"}, "nobody"),
        ({"address": "http://127.0.0.1:9"}, "cannot be reached|Cannot connect"),
        ({"cluster": "tcp://127.0.0.1:9"}, "scheduler tcp://127.0.0.1:9 cannot be reached"),
        ({"auth": "by.magic"}, "say the gateway's address and auth"),
    ],
)
def test_a_refusal_is_one_clear_line(
    server: DaskGateway, tmp_path: Path, words: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = server.clusters()
    monkeypatch.setattr("stac2cube.executors.dask.SETTINGS", {"distributed.comm.timeouts.connect": "2s"})
    with pytest.raises((BadInputError, GatewayError), match=said):
        build(tmp_path / "toy.zarr", SPEC, steps(range(1)), Make(), Gateway(**words))
    assert server.clusters() == before


def test_a_wrong_password_is_told_and_never_shown(server: DaskGateway, tmp_path: Path) -> None:
    with (
        dask.config.set({"gateway.auth.kwargs": {"username": "somebody", "password": "guessed"}}),
        pytest.raises(GatewayError, match=r"(?i)unauthorized") as caught,
    ):
        build(tmp_path / "toy.zarr", SPEC, steps(range(1)), Make(), Gateway())
    assert "guessed" not in str(caught.value)


def test_without_an_address_or_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dask.config.set({"gateway.address": None}), pytest.raises(BadInputError, match="DASK_GATEWAY__ADDRESS"):
        build(tmp_path / "toy.zarr", SPEC, steps(range(1)), Make(), Gateway())
    monkeypatch.setitem(sys.modules, "dask_gateway", None)
    with pytest.raises(BadInputError, match=r"stac2cube\[gateway\]"):
        build(tmp_path / "toy.zarr", SPEC, steps(range(1)), Make(), Gateway())


def test_what_errors_of_workers_mean() -> None:
    place = Gateway(options={"worker_memory": 2})
    assert "has no stac2cube" in place.explain(ModuleNotFoundError("gone", name="stac2cube.stages"))
    unseen = FileNotFoundError(2, "No such file", "/data/c.zarr/.stac2cube/staging/1/x")
    assert "same path" in place.explain(unseen)
    assert place.explain(FileNotFoundError(2, "No such file", "/data/other")) == ""
    assert place.explain(ModuleNotFoundError("gone", name="torch")) == ""
    with pytest.raises(BadInputError, match="at least one worker"):
        Gateway(workers=0)


def test_a_site_with_a_wrong_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "hub.toml").write_text("[gateway]\ncolour = 1\n")
    with pytest.raises(TableError, match="no key 'colour'"):
        find_site("hub")
