"""JSON schemas of the STAC extensions that are published.

No package ships the extensions' own schemas, and tests reach no network. These are ours, written from the tables of
fields that the extensions publish, and stricter in one thing: a field with an extension's prefix that its table does
not have is refused. The core schemas are pystac's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pystac.validation import set_validator, validate_dict
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from stac2cube.export import stac

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "number"}
PERCENT: Schema = {"type": "number", "minimum": 0, "maximum": 100}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}


def listed(items: Schema, least: int = 1, most: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": least, **({} if most is None else {"maxItems": most})}


def shaped(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def fields(prefix: str, known: Mapping[str, Schema]) -> Schema:
    """An object whose fields with a prefix are known ones."""
    names = {f"{prefix}:{name}": schema for name, schema in known.items()}
    return {
        "type": "object",
        "properties": names,
        "propertyNames": {"anyOf": [{"enum": list(names)}, {"not": {"pattern": f"^{prefix}:"}}]},
    }


def extension(uri: str, prefix: str, known: Mapping[str, Schema], collection: Schema | None = None) -> Schema:
    """A schema whose fields may stand in properties of Items, in assets, item assets and bands.

    Args:
        uri: That documents declare.
        prefix: Before its fields.
        known: Its fields.
        collection: What it asks of a Collection besides.
    """
    own = fields(prefix, known)
    with_bands = {"allOf": [own, {"properties": {"bands": {"type": "array", "items": own}}}]}
    assets = {"type": "object", "additionalProperties": with_bands}
    item = shaped({"type": {"const": "Feature"}, "properties": own, "assets": assets})
    parts = shaped({"type": {"const": "Collection"}}, {"assets": assets, "item_assets": assets})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": uri,
        "allOf": [
            shaped({"stac_extensions": {"type": "array", "contains": {"const": uri}}}),
            {"oneOf": [item, {"allOf": [parts, collection or {}]}]},
        ],
    }


AXIS = {"description": TEXT, "reference_system": {"type": ["string", "number", "object"]}}
HORIZONTAL = shaped(
    {"type": {"const": "spatial"}, "axis": {"enum": ["x", "y"]}, "extent": listed(NUMBER, 2, 2)},
    AXIS | {"values": listed(NUMBER), "step": {"type": ["number", "null"]}},
)
TEMPORAL = shaped(
    {"type": {"const": "temporal"}, "extent": listed(TEXT_OR_NULL, 2, 2)},
    {"description": TEXT, "values": listed(TEXT), "step": TEXT_OR_NULL},
)
VARIABLE = shaped(
    {"dimensions": listed(TEXT), "type": {"enum": ["data", "auxiliary"]}},
    {"description": TEXT, "unit": TEXT, "extent": listed({}, 2, 2), "values": listed({})},
)
CUBE = {
    "dimensions": {"type": "object", "minProperties": 1, "additionalProperties": {"anyOf": [HORIZONTAL, TEMPORAL]}},
    "variables": {"type": "object", "additionalProperties": VARIABLE},
}

PROCESSING = {
    "expression": shaped({"format": TEXT, "expression": {}}),
    "lineage": TEXT,
    "level": TEXT,
    "facility": TEXT,
    "software": {"type": "object", "additionalProperties": TEXT},
    "datetime": TEXT,
    "version": TEXT,
}
PROCESSED_PROVIDER = {
    "allOf": [
        shaped({"roles": {"type": "array", "contains": {"enum": ["producer", "processor"]}}}),
        fields("processing", PROCESSING),
        {"anyOf": [{"required": [f"processing:{name}"]} for name in PROCESSING]},
    ]
}

CLASS = shaped(
    {"value": {"type": "integer"}, "name": {"type": "string", "pattern": "^[0-9A-Za-z-_]+$"}},
    {"title": TEXT, "description": TEXT, "nodata": {"type": "boolean"}, "color_hint": {"pattern": "^[0-9A-F]{6}$"}},
)
WHOLE = {"type": "integer", "minimum": 0}

EXTENSIONS: dict[str, Schema] = {
    stac.DATACUBE: extension(
        stac.DATACUBE, "cube", CUBE, {"allOf": [fields("cube", CUBE), {"required": ["cube:dimensions"]}]}
    ),
    stac.PROJECTION: extension(
        stac.PROJECTION,
        "proj",
        {
            "code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9A-Za-z]+$"},
            "wkt2": TEXT_OR_NULL,
            "projjson": {"type": ["object", "null"]},
            "geometry": {"type": "object"},
            "bbox": listed(NUMBER, 4, 6),
            "centroid": shaped({"lat": NUMBER, "lon": NUMBER}),
            "shape": listed({"type": "integer"}, 2, 2),
            "transform": {"anyOf": [listed(NUMBER, 6, 6), listed(NUMBER, 9, 9)]},
        },
    ),
    stac.PROCESSING: extension(
        stac.PROCESSING,
        "processing",
        PROCESSING,
        shaped({"providers": {"type": "array", "contains": PROCESSED_PROVIDER}}),
    ),
    stac.EO: extension(
        stac.EO,
        "eo",
        {
            "cloud_cover": PERCENT,
            "snow_cover": PERCENT,
            "common_name": {
                "enum": [
                    *("pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071"),
                    *("rededge075", "rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22"),
                    *("lwir", "lwir11", "lwir12"),
                ]
            },
            "center_wavelength": {"type": "number", "exclusiveMinimum": 0},
            "full_width_half_max": {"type": "number", "exclusiveMinimum": 0},
            "solar_illumination": NUMBER,
        },
    ),
    stac.RASTER: extension(
        stac.RASTER,
        "raster",
        {
            "sampling": {"enum": ["area", "point"]},
            "bits_per_sample": {"type": "integer"},
            "spatial_resolution": NUMBER,
            "scale": NUMBER,
            "offset": NUMBER,
            "histogram": {"type": "object"},
        },
    ),
    stac.CLASSIFICATION: extension(
        stac.CLASSIFICATION,
        "classification",
        {
            "classes": listed(CLASS),
            "bitfields": listed(
                shaped(
                    {"offset": WHOLE, "length": {"type": "integer", "minimum": 1}, "classes": listed(CLASS)},
                    {"name": TEXT, "description": TEXT, "roles": listed(TEXT)},
                )
            ),
        },
    ),
    stac.XARRAY: extension(
        stac.XARRAY, "xarray", {"open_kwargs": {"type": "object"}, "storage_options": {"type": "object"}}
    ),
    stac.FILE: extension(
        stac.FILE,
        "file",
        {
            "checksum": {"type": "string", "pattern": "^[a-f0-9]+$"},
            "size": WHOLE,
            "header_size": WHOLE,
            "byte_order": {"enum": ["big-endian", "little-endian"]},
            "local_path": TEXT,
            "values": listed({"type": "object", "required": ["values", "summary"]}),
        },
    ),
    stac.GRID: extension(stac.GRID, "grid", {"code": {"type": "string", "pattern": "^[A-Z0-9]+-[-_.A-Za-z0-9]+$"}}),
    stac.SAT: extension(
        stac.SAT,
        "sat",
        {
            "platform_international_designator": TEXT,
            "orbit_state": {"enum": ["ascending", "descending", "geostationary"]},
            "absolute_orbit": {"type": "integer", "minimum": 1},
            "relative_orbit": {"type": "integer", "minimum": 1},
            "anx_datetime": TEXT,
        },
    ),
}

set_validator(validator := JsonSchemaSTACValidator())
validator.schema_cache.update(EXTENSIONS)


def require_valid(document: dict[str, Any]) -> list[str]:
    """Let pystac's validator see a document as JSON; the schemas that it was held against."""
    plain = json.loads(json.dumps(document))
    assert set(plain["stac_extensions"]) <= EXTENSIONS.keys()
    return [str(uri) for uri in validate_dict(plain)]
