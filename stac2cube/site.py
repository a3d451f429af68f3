"""Sites: what one must know of an HPC centre to run jobs there, read from a TOML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stac2cube.errors import BadInputError
from stac2cube.limits import Limits
from stac2cube.places.gateway import Gateway
from stac2cube.places.place import Place
from stac2cube.places.queue import in_job
from stac2cube.places.slurm import Slurm
from stac2cube.table import TableFile, names_in, shipped_and_own


@dataclass(frozen=True)
class Site:
    """An HPC centre.

    Attributes:
        name: Name of its file.
        title: What people call it.
        note: A remark for people.
        slurm: Its worker jobs.
        test: What differs in a short try: a test partition, a short time limit.
        gpu: What differs for stages that want a GPU.
        gateway: Its Dask Gateway.
        limits: What one cube may grow to here.
        cluster: SLURM's own name of the cluster (``ClusterName``), by which a job that runs there finds its site; what
            ``[slurm] clusters`` says if "".
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
        """Worker jobs here.

        Args:
            test: For a short try.
            gpu: With a GPU each.
        """
        changes = {**(self.gpu if gpu else {}), **(self.test if test else {})}
        return replace(self.slurm, **changes)


def site_names() -> tuple[str, ...]:
    """All sites known by name."""
    return names_in("sites")


def find_site(name: str) -> Site:
    """A site by name: as shipped, with what a person's own file of that name adds or overrides.

    Raises:
        BadInputError: Unknown.
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
    """What a cube that is built at a place may grow to.

    That of the site that the place was read from. A place that was not is at every site whose cluster it names, or in a
    job of whose cluster this process runs: all their limits hold.

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
