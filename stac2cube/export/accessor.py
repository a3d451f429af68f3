"""The accessor ``dataset.s2c`` of a Dataset from :func:`stac2cube.open_cube`.

It is registered with the names of :mod:`stac2cube` that use Datasets, see ``stac2cube/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.export.animation import frames_from, is_mask
from stac2cube.export.pictures import data_url, environment, sheet_of
from stac2cube.export.report import MONTHS, calendar_of, figures_of
from stac2cube.export.report_figures import globe
from stac2cube.store.ledger import EMPTY, FAILED, SEALED, Entry, Ledger
from stac2cube.store.metadata import Root, read_root

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image


_WHY = {FAILED: "failed", EMPTY: "nothing over the area"}


@xr.register_dataset_accessor("s2c")  # type: ignore[no-untyped-call]
class CubeAccessor:
    """Metadata of the cube behind a Dataset, for the steps that the Dataset has.

    Args:
        dataset: Opened by :func:`stac2cube.open_cube`, or a selection of it.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    @property
    def path(self) -> Path:
        """Path of the cube.

        Raises:
            BadInputError: The Dataset does not come from a cube, or has lost its path.
        """
        source = self._dataset.encoding.get("source", "")
        if not source or "stac2cube" not in self._dataset.attrs:
            raise BadInputError("this Dataset does not know its cube (any more): take .s2c of what open_cube returns")
        return Path(source)

    @property
    def provenance(self) -> pd.DataFrame:
        """Provenance of the steps: a row per step, in the order of the Dataset.

        Returns:
            Index ``time`` (UTC); columns ``scene``, ``platform``, ``orbit``, ``catalog``, ``baselines``, ``items``
            (ids), ``valid_fraction``, ``cloud_percent``, ``bytes``, ``seconds`` (of workers), ``hosts``, ``jobs``,
            ``software``, ``commit``, ``doubt``.
        """
        import pandas as pd

        known = Ledger(self.path, self._root.ledger).entries()
        keys = [str(key) for key in np.atleast_1d(self._dataset["scene"].values)]
        rows = [_row(known[key]) for key in keys]
        times = pd.DatetimeIndex(np.atleast_1d(self._dataset["time"].values), name="time")
        return pd.DataFrame(rows, index=times)

    def gaps(self, catalogs: str | Sequence[str] = ()) -> pd.DataFrame:
        """Missing scenes of the cube, and the reasons.

        Args:
            catalogs: Catalogs to search for scenes that are not in the ledger, by name, URL or path; without any, the
                failed scenes and those without data over the area are listed.

        Returns:
            Columns ``scene``, ``time`` (with catalogs a month, "2023-07"), ``reason``, ``catalogs``.

        Raises:
            BadInputError: Catalogs are given for a cube that is not a cube of layers.
        """
        import pandas as pd

        columns = ["scene", "time", "reason", "catalogs"]
        if catalogs:
            from stac2cube.search.cubes import gaps_of

            found, _ = gaps_of(self.path, [catalogs] if isinstance(catalogs, str) else catalogs)
            rows = [(gap.key, gap.month, gap.reason, ", ".join(gap.catalogs)) for gap in found]
            return pd.DataFrame(rows, columns=columns)
        known = Ledger(self.path, self._root.ledger).entries(whole=False).values()
        lacking = [entry for entry in known if entry.status != SEALED]
        rows = [
            (row.key, f"{row.time:%Y-%m-%d}", row.reason or _WHY[row.status], str(row.properties.get("catalog", "")))
            for row in lacking
        ]
        return pd.DataFrame(rows, columns=columns)

    def quicklook(self, most: int = 12, edge: int = 240) -> Image:
        """Draw the Dataset's steps side by side, with one stretch for all; notebooks display the image.

        Args:
            most: Largest number of steps, spread over the whole time.
            edge: Longest edge of a picture, pixels.

        Raises:
            BadInputError: There is no step, or the bands for a picture are missing.
        """
        return sheet_of(frames_from(self._dataset, self.path, most, edge))

    @property
    def _root(self) -> Root:
        return read_root(self.path)

    def __repr__(self) -> str:
        """One line."""
        return f"<stac2cube cube {self.path}: {self._dataset.sizes.get('time', 1)} steps>"

    def _repr_html_(self) -> str:
        """The cube as an HTML card: location, content, times; a picture of its clearest step."""
        figures = figures_of(self.path, account=lambda _jobs: [])
        keys = {str(key) for key in np.atleast_1d(self._dataset["scene"].values)}
        scenes = [scene for scene in figures["scenes"] if scene["key"] in keys or scene["status"] != SEALED]
        west, south, east, north = figures["grid"]["bbox"]
        return (
            environment()
            .get_template("card.html.j2")
            .render(
                it=figures,
                steps=len(keys),
                calendar=calendar_of(scenes),
                months=MONTHS,
                globe=globe((west + east) / 2, (south + north) / 2, figures["grid"]["bbox"]),
                picture=self._picture(),
                lacking=[one["what"] for one in figures["lacking"]],
            )
        )

    def _picture(self) -> str:
        """The clearest step (for masks the first one) as a data URL; "" if there is nothing to show."""
        try:
            shown = self._dataset if is_mask(self.path) else _clearest(self._dataset)
            frames = frames_from(shown, self.path, 1, 260)
        except BadInputError:
            return ""
        return data_url(frames.pictures[0], flat=is_mask(self.path))


def _clearest(dataset: xr.Dataset) -> xr.Dataset:
    """The step with the most clear pixels, according to its coordinates."""
    if dataset.sizes.get("time", 1) < 2:
        return dataset
    seen = np.zeros(dataset.sizes["time"])
    if "valid_fraction" in dataset.coords:
        seen += np.nan_to_num(dataset["valid_fraction"].values.astype("float64"))
    for name, whole in (("cloud_fraction", 1.0), ("cloud_cover", 100.0)):
        if name in dataset.coords:
            seen -= np.nan_to_num(dataset[name].values.astype("float64")) / whole
            break
    return dataset.isel(time=[int(np.argmax(seen))])


def _row(entry: Entry) -> dict[str, Any]:
    facts = entry.properties
    shards = [shard for receipt in entry.receipts for shard in receipt.shards]
    return {
        "scene": entry.key,
        "platform": facts.get("platform", ""),
        "orbit": facts.get("orbit"),
        "catalog": facts.get("catalog", ""),
        "baselines": " ".join(facts.get("baselines") or ()),
        "items": list(entry.items),
        "valid_fraction": facts.get("valid_fraction"),
        "cloud_percent": entry.cloud_percent,
        "bytes": sum(shard.size for shard in shards),
        "seconds": sum(receipt.seconds for receipt in entry.receipts),
        "hosts": " ".join(sorted({receipt.host for receipt in entry.receipts})),
        "jobs": " ".join(sorted({receipt.job for receipt in entry.receipts} - {""})),
        "software": " ".join(f"{name} {version}" for name, version in sorted(facts.get("software", {}).items())),
        "commit": entry.commit,
        "doubt": str(facts.get("doubt") or ""),
    }
