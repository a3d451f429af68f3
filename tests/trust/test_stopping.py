"""SIGTERM ends every command while a server stalls, as processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.trust.hostile import AOI, GOOD, Server, item, stall, trickle
from tests.trust.test_commands import WHAT


def test_sigterm_ends_what_waits_for_a_server(server: Server, private: Path, tmp_path: Path) -> None:
    server.files["/api2"] = stall
    server.files["/f/never.tif"], server.files["/f/slow.tif"] = stall, trickle
    server.items = [item(GOOD, f"{server.url}/f/never.tif"), item("slow", f"{server.url}/f/slow.tif", 20)]
    found = ("--catalog", server.api)
    loads = ("--aoi", AOI, "--time", "2023", "--roles", "l2a.band.B04")
    commands = [
        ("layers", tmp_path / "a.zarr", *WHAT, *found),
        ("layers", tmp_path / "b.zarr", *WHAT, "--catalog", f"{server.url}/api2"),
        ("read", server.api, AOI, tmp_path / "r", "--bands", "B04", "--mission", "sentinel-2-l2a", "--time", "2023"),
        ("download", tmp_path / "p", *loads, *found),
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "stac2cube", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in commands
    ]
    try:
        wanted = {"/api2": 1, "/f/never.tif": 3, "/f/slow.tif": 1}
        give_up = time.monotonic() + 120
        while time.monotonic() < give_up and any(
            len([path for _, path, _ in server.log if path.startswith(name)]) < count for name, count in wanted.items()
        ):
            time.sleep(0.1)
        begun = time.monotonic()
        for process in running:
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[1] for process in running]
        assert time.monotonic() - begun < 30, said
        # Of the first, all that was left to do failed: that is said by 2, and done again as after 10.
        assert [process.returncode for process in running] in ([10, 10, 10, 10], [2, 10, 10, 10]), said
        assert not [words for words in said if "Traceback" in words]
    finally:
        for process in running:
            process.kill()
