"""Site files: partitions, accounts, limits and catalogs of an HPC centre."""

from __future__ import annotations

import getpass
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import which
from typing import Any

from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place
from stac2cube.executors.gateway import Gateway
from stac2cube.executors.queue import in_job, memory_bytes
from stac2cube.executors.slurm import Slurm
from stac2cube.model.tables import TableFile, names_in, shipped_and_own

# Limits on the size of a cube at a site, in files and bytes, because quotas count both.

log = logging.getLogger(__name__)

QUICK = 10.0
"""Seconds within which a quota command has to answer; a slow file system is not waited for."""


@dataclass(frozen=True)
class Limits:
    """Largest size of one cube, the stores of its sealed years included.

    Attributes:
        max_files: Number of pixel files; 0 for no limit.
        max_bytes: Bytes in these files, ``"20TiB"``; "" for no limit.
    """

    max_files: int = 0
    max_bytes: str = ""

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            BadInputError: A negative number, or a text that is not a number of bytes.
        """
        if self.max_files < 0:
            raise BadInputError(f"max_files is a number of files, not {self.max_files}")
        if self.max_bytes:
            memory_bytes(self.max_bytes)

    def require(self, cube: Path, now: tuple[int, int], more: tuple[int, int]) -> None:
        """Refuse to let a cube grow beyond these limits.

        Args:
            cube: The cube, for the message.
            now: Its present files and bytes.
            more: Files and bytes to be added, at most.

        Raises:
            BadInputError: The cube would exceed a limit; nothing was written.
        """
        files, size = (have + add for have, add in zip(now, more, strict=True))
        room = memory_bytes(self.max_bytes) if self.max_bytes else 0
        broken = []
        if self.max_files and files > self.max_files:
            broken.append(f"{now[0]} files and up to {more[0]} more, where the site allows {self.max_files}")
        if room and size > room:
            broken.append(f"{now[1]} bytes and about {more[1]} more, where the site allows {self.max_bytes}")
        if broken:
            raise BadInputError(
                f"{cube} would have {'; and '.join(broken)}. Nothing was written: ask for less (area, bands, time), or "
                "have the site's limits raised"
            )


@dataclass(frozen=True)
class Room:
    """Space left in a folder.

    Attributes:
        source: Source of the numbers: ``"lfs quota of user anna"``, ``"the file system"``.
        size: Bytes left; None without a limit.
        files: Files left; None without a limit, or where the file system does not report it.
    """

    source: str
    size: int | None
    files: int | None

    def lacks(self, files: int, size: int) -> str:
        """Message about the shortage for so many more files and bytes; "" if the space is enough."""
        short = []
        if self.files is not None and files > self.files:
            short.append(f"{self.files} files are left, and up to {files} come")
        if self.size is not None and size > self.size:
            short.append(f"{self.size / 2**30:.1f} GiB are left, and about {size / 2**30:.1f} GiB come")
        return f"{self.source}: {'; '.join(short)}" if short else ""


def rooms(folder: Path) -> Iterator[Room]:
    """Space left in a folder: on the file system, and by the quotas of Lustre, GPFS and NFS if their commands exist.

    Args:
        folder: Folder to be written to. It need not exist: the nearest existing parent is examined.
    """
    here = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        system = os.statvfs(here)
    except OSError as error:  # not supported, or a server that does not answer
        log.warning("the file system of %s does not report its free space: %s", here, error.strerror)
    else:
        # A total of zero inodes: the file system makes them on demand.
        yield Room("the file system", system.f_bavail * system.f_frsize, system.f_favail if system.f_files else None)
    user, group = user_name(), str(here.stat().st_gid)
    for kind, whose in (("-u", user), ("-g", group)):
        name = f"{'user' if kind == '-u' else 'group'} {whose}"
        if room := lfs_room(_said(["lfs", "quota", kind, whose, str(here)]), f"lfs quota of {name}"):
            yield room
    device = _device(here)
    yield from gpfs_rooms(_said(["mmlsquota", "-Y", "-u", user, Path(device).name]), Path(device).name)
    yield from nfs_rooms(_said(["quota", "-w", "-p"]), device)


def lfs_room(said: str, source: str) -> Room | None:
    """Space left according to ``lfs quota``; None if it reports no limit.

    Args:
        said: Its output: file system, KiB used, quota, limit, grace, files used, quota, limit, grace.
        source: For messages.
    """
    found = re.search(rf"^\s*/\S*\s+{_EIGHT}", said, re.MULTILINE)
    return _room(source, found.groups()) if found else None


def nfs_rooms(said: str, device: str) -> Iterator[Room]:
    """Space left on a device according to ``quota -w -p``; its columns are those of :func:`lfs_room`."""
    for found in re.finditer(rf"^\s*{re.escape(device)}\s+{_EIGHT}", said, re.MULTILINE):
        if room := _room("quota", found.groups()):
            yield room


def gpfs_rooms(said: str, device: str) -> Iterator[Room]:
    """Space left on a device according to ``mmlsquota -Y``: a header line and lines of fields, separated by colons."""
    names: list[str] = []
    for line in said.splitlines():
        fields = line.split(":")
        if "HEADER" in fields:
            names = fields
            continue
        row = dict(zip(names, fields, strict=False))
        if row.get("filesystemName") == device:
            kind = ("block", "files")
            values = [row.get(f"{of}{what}", "0") for of in kind for what in ("Usage", "Quota", "Limit")]
            if room := _room(f"mmlsquota of {row.get('quotaType', '')} {row.get('name', '')}", values):
                yield room


_EIGHT = r"(\d+)\*?\s+(\d+)\s+(\d+)\s+\S+\s+(\d+)\*?\s+(\d+)\s+(\d+)"
"""Columns: KiB used, quota and limit, grace, files used, quota and limit."""


def _room(source: str, values: Sequence[str]) -> Room | None:
    used, quota, limit, files, files_quota, files_limit = (int(value) if value.isdigit() else 0 for value in values)
    size = max(0, (limit or quota) - used) * 1024 if limit or quota else None
    left = max(0, (files_limit or files_quota) - files) if files_limit or files_quota else None
    return None if size is None and left is None else Room(source, size, left)


def _said(command: list[str]) -> str:
    """Output of a command; "" if it does not exist or does not answer."""
    if which(command[0]) is None:
        return ""
    try:
        # Some commands fail where a quota is exceeded, and their output is needed all the same.
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=QUICK, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s does not tell of quotas: %s", command[0], error)
        return ""


def user_name() -> str:
    """Name of the current user, or the numeric id of a user without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return str(os.getuid())


_MOUNTS = Path("/proc/self/mounts")


def _device(folder: Path) -> str:
    """Device of the file system that holds a folder, as the kernel names it."""
    found, depth = "", -1
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return ""
    for line in lines:
        # proc(5): spaces and the like are written in octal; names of folders need not be UTF-8.
        words = (re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), one) for one in line.split(b" ")[:2])
        device, point = map(os.fsdecode, words)
        parts = len(Path(point).parts)
        if folder.resolve().is_relative_to(point) and parts >= depth:
            found, depth = device, parts
    return found


# Sites: the settings of an HPC centre that are needed to run jobs there, read from a TOML file.


@dataclass(frozen=True)
class Site:
    """An HPC centre.

    Attributes:
        name: Name of its file.
        title: Its name for people.
        note: A remark for people.
        slurm: Settings of its worker jobs.
        test: Settings that differ in a short test run: a test partition, a short time limit.
        gpu: Settings that differ for stages that use a GPU.
        gateway: Its Dask Gateway.
        limits: Limits on the size of one cube.
        cluster: SLURM's own name of the cluster (``ClusterName``), by which a job that runs there finds its site. If
            "", ``[slurm] clusters`` is used.
    """

    name: str
    title: str
    slurm: Slurm
    test: Mapping[str, Any]
    gpu: Mapping[str, Any]
    gateway: Gateway = field(default_factory=Gateway)
    note: str = ""
    limits: Limits = field(default_factory=Limits)
    cluster: str = ""

    def place(self, *, test: bool = False, gpu: bool = False) -> Slurm:
        """The place for worker jobs at this site.

        Args:
            test: For a short test run.
            gpu: With one GPU per job.
        """
        changes = {**(self.gpu if gpu else {}), **(self.test if test else {})}
        return replace(self.slurm, **changes)


def site_names() -> tuple[str, ...]:
    """Names of all known sites."""
    return names_in("sites")


def find_site(name: str) -> Site:
    """A site by name: the shipped file, extended and overridden by the user's own file of that name.

    Args:
        name: Name of the site, which is the name of its file without ``.toml``.

    Returns:
        The site. Its method ``place`` gives the place where blocks are made.

    Raises:
        BadInputError: The site is unknown.
        TableError: A file is malformed.
    """
    files = list(shipped_and_own(f"sites/{name}.toml"))
    if not files:
        raise BadInputError(
            f"unknown site {name!r}: known are {', '.join(site_names())}. Describe yours in "
            f"~/.config/stac2cube/sites/{name}.toml (`stac2cube doctor --write {name}` makes a first version)"
        )
    merged: dict[str, Any] = {}
    for file in files:
        for key, value in _checked(file).items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    slurm, test, gpu = (_values(merged.get(part, {})) for part in _PARTS)
    return Site(
        name=name,
        title=merged.get("title", name),
        note=merged.get("note", ""),
        gateway=Gateway(**merged.get("gateway", {}), site=name),
        slurm=Slurm(**slurm, site=name),
        test=test,
        gpu=gpu,
        limits=Limits(**merged.get("limits", {})),
        cluster=merged.get("cluster", ""),
    )


def limits_at(place: Place) -> tuple[Limits, ...]:
    """Limits on the size of a cube that is built at a place.

    For a place read from a site file these are the limits of that site. For any other place, all sites count whose
    cluster the place names, or in whose cluster this process runs as a job.

    Raises:
        TableError: A site file is malformed.
    """
    if isinstance(place, (Slurm, Gateway)) and place.site:
        return (find_site(place.site).limits,)
    named = place.clusters if isinstance(place, Slurm) else ""
    cluster = named or (os.environ.get("SLURM_CLUSTER_NAME", "") if in_job() else "")
    sites = [find_site(name) for name in site_names()] if cluster else []
    return tuple(site.limits for site in sites if cluster in (site.cluster or site.slurm.clusters).split(","))


def _values(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


_PARTS = ("slurm", "test", "gpu")


@dataclass(frozen=True)
class _Page:
    """The keys of a site file."""

    title: str = ""
    note: str = ""
    cluster: str = ""
    slurm: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    gpu: Mapping[str, Any] | None = None
    gateway: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] | None = None


def _checked(file: TableFile) -> dict[str, Any]:
    page = file.parse()
    file.check(_Page, page, "the site")
    for part in _PARTS:
        if part in page:
            file.check(Slurm, page[part], f"[{part}]", given=("site",))
    if "gateway" in page:
        file.check(Gateway, page["gateway"], "[gateway]", given=("site",))
    if "limits" in page:
        file.check(Limits, page["limits"], "[limits]")
    return page
