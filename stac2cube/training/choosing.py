"""From all patches to those that are kept, each with its place in a shard; and the table that says so of every one."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import Transformer
from shapely import box

from stac2cube.errors import BadInputError
from stac2cube.training.patch_rules import Good, PatchRules
from stac2cube.training.splits import drawn_order

TRAIN = "train"
"""The split that balance may thin; the others judge and stay as the world is."""

KEPT = "kept"


def choose(rows: Iterable[Mapping[str, Any]], rules: PatchRules) -> pd.DataFrame:
    """Every patch with what became of it.

    Args:
        rows: As :func:`stac2cube.training.patches.scan` wrote them.
        rules: How they are chosen.

    Returns:
        One row per patch, sorted by id. ``status`` is ``"kept"`` or why it is not; kept ones have ``split``, ``shard``
        (number within the split) and ``at`` (place within the shard).

    Raises:
        BadInputError: A rule asks for clouds or labels of which nothing is known.
    """
    table = pd.DataFrame(list(rows))
    for name in ("cloud", "ignore", "classes"):
        if name not in table:
            table[name] = None
    table = table.sort_values("id", ignore_index=True)
    _refuse_unknown(table, rules.good)
    table["majority"] = [_majority(classes) for classes in table["classes"]]
    table["status"] = [_verdict(patch, rules.good) for patch in table.to_dict("records")]
    if rules.good.balance is not None:
        _thin(table, rules)
    _deal_out(table, rules)
    return table


def plain(value: Any) -> Any:
    """A cell of the table as JSON knows it: NaN, pandas' word for nothing, is None."""
    return None if isinstance(value, float) and math.isnan(value) else value


def as_geoparquet(table: pd.DataFrame) -> bytes:
    """The table as GeoParquet, patches as WGS84 outlines; the same table gives the same bytes."""
    columns = table.drop(columns=["bounds", "classes"]).copy()
    west, south, east, north = zip(*table["bounds"], strict=True)
    for name, edge in zip(("west", "south", "east", "north"), (west, south, east, north), strict=True):
        columns[name] = edge
    columns["classes"] = [json.dumps(classes or {}, sort_keys=True) for classes in table["classes"]]
    for name in ("cloud", "ignore", "majority"):
        columns[name] = pd.to_numeric(columns[name]).astype("float64" if name != "majority" else "Int64")
    out = io.BytesIO()
    gpd.GeoDataFrame(columns, geometry=_outlines(table), crs="EPSG:4326").to_parquet(out, index=False)
    return out.getvalue()


def counts_of(table: pd.DataFrame) -> dict[str, Any]:
    """How many patches were kept per split, and why others were not."""
    kept = table[table["status"] == KEPT]
    return {
        "kept": {str(name): int(count) for name, count in kept["split"].value_counts(sort=False).sort_index().items()},
        "left out": {
            str(why): int(count)
            for why, count in table["status"].value_counts(sort=False).sort_index().items()
            if why != KEPT
        },
    }


def _refuse_unknown(table: pd.DataFrame, good: Good) -> None:
    if good.max_cloud < 1 and table["cloud"].isna().any():
        raise BadInputError("max_cloud: nothing is known of clouds here: give the clouds cube, or leave it at 1")
    wants_labels = good.max_ignore < 1 or good.max_share < 1 or good.balance is not None
    if wants_labels and table["classes"].isna().any():
        raise BadInputError("max_ignore, max_share and balance want labels, and there are none here")


def _majority(classes: Any) -> int | None:
    """The class with most pixels; of equals the smallest number."""
    if not isinstance(classes, dict) or not classes:
        return None
    return min((-count, int(number)) for number, count in classes.items())[1]


def _verdict(patch: Mapping[str, Any], good: Good) -> str:
    if not patch["split"]:
        return "between splits"
    if patch["valid"] < good.min_valid:
        return "too little valid"
    if patch["cloud"] is not None and patch["cloud"] > good.max_cloud:
        return "too much cloud"
    if isinstance(patch["classes"], dict):
        if patch["ignore"] > good.max_ignore:
            return "too little labelled"
        labelled = sum(patch["classes"].values())
        if labelled and max(patch["classes"].values()) / labelled > good.max_share:
            return "one class alone"
    return KEPT


def _thin(table: pd.DataFrame, rules: PatchRules) -> None:
    """Of each majority class so many patches at most, drawn by the seed."""
    taught = table[(table["status"] == KEPT) & (table["split"] == TRAIN)]
    sizes = taught["majority"].value_counts()
    if sizes.empty:
        return
    assert rules.good.balance is not None
    most = int(sizes.min() * rules.good.balance)
    for _, group in taught.groupby("majority"):
        order = drawn_order(rules.seed, group["id"].tolist())
        table.loc[group.index[order[most:]], "status"] = "too many of its class"


def _deal_out(table: pd.DataFrame, rules: PatchRules) -> None:
    """Shuffle each split by the seed and cut it into shards."""
    table["shard"] = pd.array([None] * len(table), dtype="Int64")
    table["at"] = pd.array([None] * len(table), dtype="Int64")
    for _, group in table[table["status"] == KEPT].groupby("split"):
        order = drawn_order(rules.seed, group["id"].tolist())
        numbers = np.arange(len(group))
        table.loc[group.index[order], "shard"] = numbers // rules.per_shard
        table.loc[group.index[order], "at"] = numbers % rules.per_shard


def _outlines(table: pd.DataFrame) -> list[Any]:
    outlines: list[Any] = [None] * len(table)
    for crs, group in table.groupby("crs"):
        transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        for place, bounds in zip(group.index, group["bounds"], strict=True):
            outlines[place] = box(*transformer.transform_bounds(*bounds))
    return outlines
