"""Recipes: what is understood, what is refused with its line, and that schema, commands and reader say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from stac2cube.cli import cli
from stac2cube.cli.recipes import KINDS, check_recipe, command_lines, recipe_at, schema_text
from stac2cube.errors import BadInputError
from stac2cube.model.catalog import find_catalog
from stac2cube.recipe.file import Recipe, read_recipe, show_recipe, write_recipe

DOCS = Path(__file__).parents[1] / "docs"
LAYERS = "layers: {mission: sentinel-2-l2a, aoi: '11,48,12,49', time: 2023}\n"


def recipe_of(folder: Path, text: str, *changes: str, environment: dict[str, str] | None = None) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path, KINDS, changes, environment or {})


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadInputError) as caught:
        recipe_of(folder, text)
    return str(caught.value).splitlines()


def commands_of(recipe: Recipe) -> list[list[str]]:
    base = f"{recipe.cubes}/"
    return [[w.replace(base, "") for w in line] for entry in recipe.entries for line in command_lines(recipe, entry)]


def test_a_recipe_and_back(tmp_path: Path) -> None:
    text = "cubes: alps\nreport:\nlayers:\n  mission: sentinel-2-l2a\n  aoi: 11,48,12,49\n  max-cloud-cover: 40\n"
    recipe = recipe_of(tmp_path, text)
    layers, report = recipe.entries
    assert recipe.made_by(layers) == tmp_path / "alps" / "layers.zarr"
    assert (layers.label, report.label) == ("layers", "report"), "in the order in which they are made"
    assert layers.words == {"mission": "sentinel-2-l2a", "aoi": "11,48,12,49", "max_cloud_cover": 40.0}
    write_recipe(recipe)
    assert read_recipe(recipe.path, KINDS) == recipe


WHOLE = """
cubes: alps
layers:
  mission: sentinel-2-l2a
  aoi: [11.2, 48, 11.4, 48.1]
  time: 2018/2024
  bands: [red, nir, scl]
  resampling: {B05: cubic, B06: nearest}
  orbit: 065
  resolution: 8.983152841195215e-05
  strict: yes
clouds: {thresholds: [0.4, 0.6], shadows: no, of: coregister}
coregister: {engine: phase}
mask:
indices: {names: [ndvi, nbr]}
composite:
  monthly: {period: month}
  greenest: {period: year, method: best, by: NDVI}
export: {july: {of: monthly, step: [2023-07-01, 2023-08-01]}, all: {of: monthly, out: all.nc}}
series: {places: '48.1,11.3', clouds: clouds, of: coregister, statistics: [mean, max]}
timelapse: {of: monthly, show: [B08, B04, B03], out: alps.mp4}
slider: {before: 2023-07-01, after: 2024-07-01, of: monthly}
report: {of: [layers, monthly]}
statistics: {of: layers, range: [0, 0.8], bands: [B04, B08]}
patches: {of: layers, labels: SCL, size: 64}
publish: {of: greenest, header: ['A: b', 'C: d'], api: 'http://127.0.0.1/'}
"""


def test_a_recipe_is_commands(tmp_path: Path) -> None:
    assert commands_of(recipe_of(tmp_path, WHOLE)) == [
        [
            *("layers", "layers.zarr", "--mission=sentinel-2-l2a", "--aoi=11.2,48,11.4,48.1", "--time=2018/2024"),
            *(
                "--bands=red,nir,scl",
                "--resampling=B05=cubic,B06=nearest",
                "--orbit=065",
                "--resolution=8.983152841195215e-05",
                "--strict",
            ),
        ],
        ["coregister", "layers.zarr", "coregister.zarr", "--engine=phase"],
        ["clouds", "coregister.zarr", "clouds.zarr", "--thresholds=0.4,0.6", "--no-shadows"],
        ["mask", "coregister.zarr", "clouds.zarr", "mask.zarr"],
        ["indices", "mask.zarr", "indices.zarr", "ndvi", "nbr"],
        ["composite", "mask.zarr", "monthly.zarr", "--period=month"],
        ["composite", "mask.zarr", "greenest.zarr", "--period=year", "--method=best", "--by=NDVI"],
        ["export", "monthly.zarr", "july", "--step=2023-07-01", "--step=2023-08-01"],
        ["export", "monthly.zarr", "all.nc"],
        [*("series", "coregister.zarr", "48.1,11.3", "series.csv"), "--clouds=clouds.zarr", "--statistics=mean,max"],
        ["timelapse", "monthly.zarr", "alps.mp4", "--show=B08,B04,B03"],
        ["slider", "monthly.zarr", "2023-07-01", "2024-07-01", "slider.html"],
        ["report", "layers.zarr", "report.html"],
        ["report", "monthly.zarr", "report-monthly.html"],
        ["statistics", "layers.zarr", "statistics", "--range", "0", "0.8", "--bands=B04,B08"],
        ["patches", "layers.zarr", "patches", "--statistics=statistics", "--labels=SCL", "--size=64"],
        ["publish", "greenest.zarr", "--header=A: b", "--header=C: d", "--api=http://127.0.0.1/"],
    ]


def test_what_is_made_from_what_unless_it_is_said(tmp_path: Path) -> None:
    text = f"cubes: a\n{LAYERS}clouds:\ncoregister:\nmove:\nmask:\nsuperres:\nreport:\n"
    assert commands_of(recipe_of(tmp_path, text))[1:] == [
        ["clouds", "layers.zarr", "clouds.zarr"],
        [
            "coregister",
            "layers.zarr",
            "coregister.zarr",
            "--clouds=clouds.zarr",
        ],
        ["move", "clouds.zarr", "coregister.zarr", "move.zarr"],
        ["mask", "coregister.zarr", "move.zarr", "mask.zarr"],
        ["superres", "mask.zarr", "superres.zarr"],
        ["report", "layers.zarr", "report.html"],
        *(["report", f"{n}.zarr", f"report-{n}.html"] for n in ("clouds", "coregister", "move", "mask", "superres")),
    ]
    other = recipe_of(tmp_path, "cubes: a\nquicklook: {of: ../b/layers.zarr, out: b.gif}\n")
    assert commands_of(other) == [["quicklook", str(tmp_path / "../b/layers.zarr"), "b.gif"]]


def test_entries_are_chosen_by_label_name_or_kind(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, WHOLE)
    chosen = {word: [e.label for e in recipe.chosen([word])] for word in ("composite", "monthly", "composite.greenest")}
    assert chosen == {
        "composite": ["composite.monthly", "composite.greenest"],
        "monthly": ["composite.monthly"],
        "composite.greenest": ["composite.greenest"],
    }
    with pytest.raises(BadInputError, match="has no weekly; it has layers, coregister, clouds"):
        recipe.chosen(["weekly"])


def test_variables_and_words_said_otherwise(tmp_path: Path) -> None:
    text = (
        "cubes: ${WORK}/alps\nlayers:\n  mission: ${M:-sentinel-2-l2a}\n  aoi: 1,2,3,4\n  max_cloud_cover: ${C:-40}\n"
    )
    changes = ("layers.time=2024-07-14", "layers.max-cloud-cover=20", "composite.monthly.period=week", "report=")
    recipe = recipe_of(tmp_path, text, *changes, environment={"WORK": "/scratch", "M": ""})
    assert recipe.cubes == Path("/scratch/alps")
    layers, monthly, _ = recipe.entries
    assert layers.words == {
        "mission": "sentinel-2-l2a",
        "aoi": "1,2,3,4",
        "max_cloud_cover": 20.0,
        "time": ("2024-07-14",),
    }
    assert (monthly.label, monthly.words) == ("composite.monthly", {"period": "week"})
    literal = recipe_of(tmp_path, "cubes: $${a}\nquicklook: {of: b.zarr, out: '$${b}.png'}", environment={})
    assert literal.cubes.name == "${a}"
    write_recipe(literal)
    assert read_recipe(literal.path, KINDS) == literal, "what was filled in is not filled in again"
    half = recipe_of(tmp_path, "cubes: 'a${b'\nquicklook: {of: b.zarr, out: '$$$${b}.png'}", environment={})
    write_recipe(half)
    assert read_recipe(half.path, KINDS) == half


def test_paths_are_meant_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "area.geojson").write_text("{}")
    (tmp_path / "sentinel-2-l2a").mkdir()
    (layers,) = recipe_of(tmp_path, "cubes: a\nlayers: {mission: sentinel-2-l2a, aoi: area.geojson}").entries
    assert layers.words == {"mission": "sentinel-2-l2a", "aoi": str(tmp_path / "area.geojson")}
    (layers,) = recipe_of(tmp_path, "cubes: a\nlayers: {mission: m, aoi: {type: Point, coordinates: [1, 2]}}").entries
    assert json.loads(str(layers.words["aoi"])) == {"type": "Point", "coordinates": [1, 2]}


def test_a_folder_called_like_a_catalog_or_an_index_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run makes the folder of the cubes, and the second finds it beside the recipe."""
    monkeypatch.setenv("STAC2CUBE_DATA_DIR", str(tmp_path / "data"))
    index = tmp_path / "data" / "indexes" / "alps"
    index.mkdir(parents=True)
    (index / "index.json").write_text("{}")
    for name in ("earth-search", "alps", "auto", "items"):
        (tmp_path / name).mkdir()
        (layers,) = recipe_of(tmp_path, f"cubes: {name}\nlayers: {{mission: m, aoi: 1, catalog: {name}}}").entries
        assert layers.words["catalog"] == (str(tmp_path / name) if name == "items" else name)


def test_an_empty_text_is_no_path(tmp_path: Path) -> None:
    (layers,) = recipe_of(tmp_path, "cubes: a\nlayers: {mission: m, aoi: '${AREA:-}'}").entries
    assert layers.words["aoi"] == ""


def test_a_home_of_nobody_is_part_of_a_name(tmp_path: Path) -> None:
    assert recipe_of(tmp_path, "cubes: ~nobody-here/a\nquicklook: {of: b.zarr}").cubes == tmp_path / "~nobody-here/a"
    with pytest.raises(BadInputError, match=r"there is no catalog at '~nobody-here/b\.json'"):
        find_catalog("~nobody-here/b.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAYERS, "at least 'cubes: FOLDER'"),
        ("- 1", "at least 'cubes: FOLDER'"),
        ("", "at least 'cubes: FOLDER'"),
        ("cubes: a", "there is no entry; known are layers, clouds"),
        ("cubes: [a", "is not YAML"),
        ("cubes: \x00", "is not YAML"),
        ('cubes: "a\\0b"', "line 1: a value holds a NUL character"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join(['*a' + str(n - 1)] * 9)}]\n" for n in range(1, 30)),
            "parts",
        ),
        ("cubes: a\nlayers: &x {time: *x}", "holds itself"),
        (f"cubes: a\n{LAYERS}{LAYERS}", "layers occurs twice"),
        ("cubes: a\nlayer:", "line 2: 'layer' is not known; did you mean 'layers'?"),
        ("cubes: a\nfoo:", "line 2: 'foo' is not known; known are cubes, layers"),
        ("cubes: a\nlayers:\n  missoin: m", "line 3: layers does not know 'missoin'; did you mean 'mission'?"),
        ("cubes: a\nlayers: [1, 2]", "line 2: layers should be a table of words"),
        ("cubes: a\nlayers:\n  time: 1", "line 2: layers lacks the word 'mission'"),
        (
            "cubes: a\nlayers:\n  max_cloud_cover: x",
            "line 3: layers: max_cloud_cover should be a number from 0 up to 100, not 'x'",
        ),
        ("cubes: a\nlayers:\n  edge: .inf", "line 3: layers: edge should be a number, not '.inf'"),
        ("cubes: a\nlayers:\n  edge: nan", "line 3: layers: edge should be a number, not nan"),
        ("cubes: a\nlayers:\n  mission: [a]", "line 3: layers: mission should be a single value"),
        ("cubes: a\nlayers:\n  strict: maybe", "line 3: layers: strict should be true or false, not 'maybe'"),
        ("cubes: a\nlayers:\n  mission:", "line 3: layers: mission should have a value"),
        ("cubes: a\nlayers:\n  aoi: ${AREA}", "line 3: the variable AREA is not set; ${AREA:-DEFAULT} does without"),
        ("cubes: a\nlayers:\n  aoi: ${A B}", "line 3: ${A B} should be ${NAME} or ${NAME:-default}"),
        ("cubes: a\ncoregister:\n  engine: fase", "engine should be one of arosics, phase, not 'fase'"),
        ("cubes: a\nmask:", "line 2: mask needs an entry of coregister or layers, or of: the path of a cube"),
        (f"cubes: a\n{LAYERS}mask: {{of: layer}}", "of is no entry that makes a cube: 'layer'; did you mean 'layers'?"),
        (f"cubes: a\n{LAYERS}composite:\n  a: {{of: b}}\n  b: {{of: a}}", "a, b would be made from each other"),
        (f"cubes: a\n{LAYERS}composite: {{a: {{}}, b: }}", "composite: 'b' should be a name and a table of words"),
        (
            f"cubes: a\n{LAYERS}composite: {{a: {{}}}}\nindices: {{a: {{names: ndvi}}}}",
            "a would make a.zarr, as does line",
        ),
        (
            f"cubes: a\n{LAYERS}statistics: {{x: {{of: layers}}, y: {{of: layers}}}}\npatches:",
            "patches can be made from several, say statistics: one of x, y",
        ),
        (
            f"cubes: a\n{LAYERS}patches: {{statistics: layers}}",
            "statistics is no entry that makes statistics: 'layers'",
        ),
        (
            f"cubes: a\n{LAYERS}statistics:\npatches: {{of: statistics}}",
            "of is no entry that makes a cube: 'statistics'",
        ),
        (f"cubes: a\n{LAYERS}composite: {{a: {{}}}}\nstatistics: {{a: {{}}}}", "a is called like line"),
        (
            "cubes: a\nlayers:\n  s1: {mission: m, aoi: x}\n  s2: {mission: m, aoi: x}\nclouds:",
            "line 5: clouds can be made from several, say of: one of s1, s2",
        ),
    ],
)
def test_a_recipe_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    problems = problems_of(tmp_path, text)
    assert any(words in problem for problem in problems), problems
    assert all("recipe.yaml" in problem for problem in problems)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, "cubes: a\nlayers:\n  tmie: 2023\n  aoi: x\n  edge: wide\nmsak:\n")
    assert [problem.partition("yaml, ")[2].partition(":")[0] for problem in problems] == [
        *("line 6", "line 3", "line 5", "line 2")
    ]


@pytest.mark.parametrize("change", ["layers", "=2024", "layers..time=1"])
def test_no_assignment(tmp_path: Path, change: str) -> None:
    with pytest.raises(BadInputError, match="write WORD=VALUE"):
        recipe_of(tmp_path, f"cubes: a\n{LAYERS}", change)


def test_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "nothing.yaml", KINDS)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("clouds: {thresholds: [2]}", "clouds: thresholds should be numbers, each more than 0 and less than 1, not 2"),
        (
            "clouds: {thresholds: [a]}",
            "clouds: thresholds should be numbers, each more than 0 and less than 1, not 'a'",
        ),
        ("coregister: {max_shift: -1}", "coregister: .*shift"),
        ("superres: {target: 3}", "superres: .*3"),
        ("statistics: {percentiles: [98, 2]}", "statistics: percentiles are two of 0 to 100"),
        ("statistics: {range: [1]}", "statistics: .*'--range' requires 2 arguments"),
        ("patches: {size: 0}", "patches: .*size"),
    ],
)
def test_what_would_fail_late_fails_early(tmp_path: Path, more: str, words: str) -> None:
    check_recipe(recipe_of(tmp_path, f"cubes: a\n{LAYERS}"))
    with pytest.raises(BadInputError, match=words):
        check_recipe(recipe_of(tmp_path, f"cubes: a\n{LAYERS}{more}\n"))
    with pytest.raises(BadInputError, match="layers: unknown mission 'm'"):
        check_recipe(recipe_of(tmp_path, "cubes: a\nlayers: {mission: m, aoi: '1,2,3,4'}"))


def test_a_recipe_shown_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, WHOLE)
    shown = show_recipe(recipe)
    assert "dilate_m: 120.0  # unless said otherwise" in shown
    again = recipe_of(tmp_path, shown)
    assert again.cubes == recipe.cubes
    assert [entry.label for entry in again.entries] == [entry.label for entry in recipe.entries]
    assert [entry.inputs for entry in again.entries] == [entry.inputs for entry in recipe.entries]
    assert all(
        entry.words.items() <= other.words.items() for entry, other in zip(recipe.entries, again.entries, strict=True)
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("indices: {names: [ndvi, nbr]}", "indices: made of layers: NBR needs S2 (swir22), which the layers B04, B08"),
        ("composite: {method: best, by: NDMI}", "composite: made of layers: NDMI needs S1 (swir16)"),
        ("timelapse: {show: swir}", "timelapse: made of layers: .*swir22"),
        ("timelapse: {show: evi}", "timelapse: made of layers: there is nothing called 'evi' .* EVI needs B (blue)"),
        ("series: {places: '48.1,11.3', indices: [ndvi, mndwi]}", "series: made of layers: MNDWI needs G (green) and"),
        ("clouds: {method: scl}\nmask:\nindices: {names: nbr}", "indices: made of mask: NBR needs S2 (swir22)"),
        ("composite: {layers: B04}\nquicklook: {of: composite, show: ndvi}", "made of composite: .*NDVI needs N (nir)"),
        ("indices: {names: ndvi}\ntimelapse: {of: indices, show: nbr}", "timelapse: made of indices: .*NBR needs N"),
    ],
)
def test_an_index_without_its_band_is_refused_before_anything_runs(more: str, told: str, tmp_path: Path) -> None:
    text = f"cubes: a\n{LAYERS.rstrip().rstrip('}')}, bands: [red, nir, scl]}}\n{more}\n"
    parts = [re.escape(part) for part in told.split(".*")]
    with pytest.raises(BadInputError, match=".*".join(parts)):
        check_recipe(recipe_of(tmp_path, text))
    shown = CliRunner().invoke(cli, ["run", str(tmp_path / "recipe.yaml")])
    assert isinstance(shown.exception, BadInputError) or shown.exit_code == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "more",
    [
        "indices: {names: [ndvi]}\ntimelapse: {of: indices, show: ndvi}",
        "composite: {method: best, by: B08}",
        "timelapse: {show: 'nir,red,nir'}\nquicklook: {show: scl}",
        "indices: {of: elsewhere.zarr, names: [nbr]}",
        "clouds: {method: scl}\nquicklook: {of: clouds}",
    ],
)
def test_indices_and_colours_that_have_their_bands_are_not(more: str, tmp_path: Path) -> None:
    check_recipe(recipe_of(tmp_path, f"cubes: a\n{LAYERS.rstrip().rstrip('}')}, bands: [red, nir, scl]}}\n{more}\n"))


def test_the_page_about_recipes_shows_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "recipes.md").read_text(), flags=re.DOTALL)
    (tmp_path / "alps.geojson").write_text('{"type": "Polygon", "coordinates": [[[11,47],[12,47],[12,48],[11,47]]]}')
    recipe = recipe_of(tmp_path, text)
    check_recipe(recipe)
    made = ["layers", "clouds", "mask", "indices", "composite.monthly", "composite.greenest", "export.july"]
    made += ["timelapse", "report", "statistics", "patches"]
    assert [entry.label for entry in recipe.entries] == made
    table = (DOCS / "recipes.md").read_text().partition("| entry |")[2].partition("\n\n")[0]
    assert {name for name in KINDS if f"`{name}`" not in table} == set()


def as_editors_see(text: str) -> object:
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


def test_the_schema_says_what_the_reader_says(tmp_path: Path) -> None:
    schema = json.loads(schema_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert (DOCS / "recipe.schema.json").read_text() == schema_text(), "stac2cube config schema docs/recipe.schema.json"
    for text in (
        WHOLE,
        f"cubes: a\n{LAYERS}report:\n",
        "cubes: a\nlayers: {mission: m, aoi: x, max-cloud-cover: '${C}'}",
    ):
        assert not list(validator.iter_errors(as_editors_see(text)))
    for text in (
        *("layers: {mission: m, aoi: x}", "cubes: a\nlayer:", "cubes: a\nlayers: {mission: m, aoi: x, tmie: 1}"),
        *("cubes: a\nlayers: {mission: m}", "cubes: a\ncoregister: {engine: fase}", "cubes: a\nindices:"),
        "cubes: a\nquicklook: {most: x}",
    ):
        assert list(validator.iter_errors(as_editors_see(text))), text


def test_every_kind_is_a_command_with_help() -> None:
    for kind in KINDS.values():
        assert kind.help, kind.name
        for word in kind.every_word().values():
            assert word.help or word.choices, (kind.name, word.name)
    assert recipe_at  # the door that all commands take
