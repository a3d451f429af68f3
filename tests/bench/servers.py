"""What stands between a tool and the files: nginx with latency, a slow file system, or nothing; and what it counts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")


@dataclass
class Between:
    """One way to the files.

    Attributes:
        url: Where they are served, "" if they are opened as files.
        environment: Variables for the tool's process.
        log: Where requests are written down, or counts of opens and reads.
    """

    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    log: Path | None = None

    def begin(self) -> None:
        """Forget what was counted."""
        if self.log is not None:
            self.log.write_text("")

    def counted(self) -> tuple[int, int]:
        """Requests and bytes over HTTP; opens and reads of a slow file system; nothing of a plain one."""
        if self.log is None:
            return 0, 0
        if self.url:
            time.sleep(0.1)
            lines = [line.split() for line in self.log.read_text().splitlines()]
            return len(lines), sum(int(size) for _, _, size in lines)
        opens, reads = self.log.read_text().split()
        return int(opens), int(reads)


@contextmanager
def nginx(files: Path, folder: Path, milliseconds: int) -> Iterator[Between]:
    """A real server whose every answer waits."""
    if not (shutil.which("nginx") and MODULE.exists()):
        raise SystemExit("install Debian's nginx-light and libnginx-mod-http-echo")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log, settings = (folder / "requests.log").resolve(), folder / "nginx.conf"
    wait = f"echo_sleep {milliseconds / 1000}; echo_exec @files;" if milliseconds else "try_files /none @files;"
    settings.write_text(
        f"""load_module {MODULE};
user root; worker_processes 1; daemon off; pid {folder.resolve()}/nginx.pid; error_log {folder.resolve()}/error.log;
events {{ worker_connections 1024; }}
http {{
  log_format short '$request_method $status $body_bytes_sent';
  access_log {log} short;
  sendfile on; keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ {wait} }}
    location @files {{ root {files.resolve()}; }}
  }}
}}
"""
    )
    process = subprocess.Popen(["nginx", "-c", str(settings.resolve())])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Between(f"http://127.0.0.1:{port}", {}, log)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def slow_files(files: Path, folder: Path, milliseconds: float) -> Iterator[Between]:
    """Every open and read of the archive waits: a stand-in for a busy parallel file system."""
    folder.mkdir(parents=True, exist_ok=True)
    library, counts = folder / "slow_files.so", (folder / "counts").resolve()
    source = Path(__file__).with_name("slow_files.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    environment = {"LD_PRELOAD": str(library.resolve()), "SLOW_FILES": str(files.resolve())}
    yield Between("", environment | {"SLOW_MS": str(milliseconds), "SLOW_COUNTS": str(counts)}, counts)


@contextmanager
def plain() -> Iterator[Between]:
    """The local disk, its pages in memory."""
    yield Between()


def drop_caches() -> None:
    """Let the system forget files (root only)."""
    if os.geteuid() == 0:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
