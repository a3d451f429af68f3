"""Sites: what one must know of an HPC centre to run jobs there, read from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stac2cube.errors import BadInputError
from stac2cube.limits import Limits
from stac2cube.places.gateway import Gateway
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
    """

    name: str
    title: str
    slurm: Slurm
    test: Mapping[str, Any]
    gpu: Mapping[str, Any]
    gateway: Gateway = field(default_factory=Gateway)
    note: str = ""
    limits: Limits = field(default_factory=Limits)

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
        gateway=Gateway(**merged.get("gateway", {})),
        slurm=Slurm(**slurm),
        test=test,
        gpu=gpu,
        limits=Limits(**merged.get("limits", {})),
    )


def _values(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


_PARTS = ("slurm", "test", "gpu")


@dataclass(frozen=True)
class _Page:
    """The keys of a site file."""

    title: str = ""
    note: str = ""
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
            file.check(Slurm, page[part], f"[{part}]")
    if "gateway" in page:
        file.check(Gateway, page["gateway"], "[gateway]")
    if "limits" in page:
        file.check(Limits, page["limits"], "[limits]")
    return page
