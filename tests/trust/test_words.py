"""Texts, addresses, names and waiting, by themselves."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stac2cube.archives.archive import read_archive
from stac2cube.datasets.acquisitions import read_manifest
from stac2cube.datasets.shards import read_patch_manifest
from stac2cube.errors import BadInputError, Stac2cubeError
from stac2cube.model.catalog import Catalog, find_catalog, public_catalog
from stac2cube.search.index_files import read_index_manifest
from stac2cube.store.reader import open_cube
from stac2cube.trust import deadline
from stac2cube.trust.address import (
    Login,
    ends_at,
    has_secret,
    may_see_keys,
    public,
    public_text,
    redacted,
    remember,
    same_origin,
    secrets_in,
)
from stac2cube.trust.deadline import TooSlowError, stop_waiting, wait_again, within
from stac2cube.trust.names import TABLE, Names, is_below, is_harmless, path_below, safe_name
from stac2cube.trust.text import LineFormatter, as_cells, cell, is_printable, printable


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("https://h/a.tif?sv=1&se=2&sig=S&v=3", "https://h/a.tif?v=3"),
        ("https://h/a.tif?X-Amz-Signature=S&X-Amz-Date=D&file=b", "https://h/a.tif?file=b"),
        ("https://h/a.tif?Expires=1&Signature=S&Key-Pair-Id=K", "https://h/a.tif"),
        ("https://h/a.tif?hdnts=st=1~exp=2~hmac=3", "https://h/a.tif"),
        ("https://h/a.tif?q-sign-algorithm=sha1&q-ak=A&q-signature=S", "https://h/a.tif"),
        ("https://h/a.tif?OSSAccessKeyId=A&Expires=1&Signature=S", "https://h/a.tif"),
        ("https://h/a.tif?Subscription-Key=S&id=4", "https://h/a.tif?id=4"),
        ("https://h/a.tif?%61ccess_token=S", "https://h/a.tif"),
        ("https://h/a.tif;token=S?x=1;token=S", "https://h/a.tif?x=1"),
        ("https://u:p@ss@h:8/a.tif", "https://h:8/a.tif"),
        ("https://h/a.tif#access_token=S", "https://h/a.tif"),
        ("https://h/a?o=0a1b2c3d-4e5f-6789-abcd-ef0123456789", "https://h/a?o=0a1b2c3d-4e5f-6789-abcd-ef0123456789"),
        ("https://h/a.tif?expires=never&design=x&monkey_id=2", "https://h/a.tif?expires=never&design=x&monkey_id=2"),
        ("https://h/a.tif", "https://h/a.tif"),
        ("/a/b?token=1", "/a/b"),
        ("a title? key=1", "a title? key=1"),
        ("s3://bucket/a?x", "s3://bucket/a?x"),
    ],
)
def test_addresses_without_keys(url: str, left: str) -> None:
    assert public(url) == left
    assert has_secret(url) == (url != left)
    assert public(left) == left


def test_who_may_see_keys() -> None:
    hosts = ("example.org", ".data.test")
    good = (
        "https://example.org/a",
        "https://EXAMPLE.org:444/",
        "https://b.example.org",
        "https://x.data.test",
    )
    bad = (
        "http://example.org",
        "https://example.org.evil.test",
        "https://badexample.org",
        "https://evil.test/example.org",
        "https://example.org@evil.test/",
        "https://evil.test#example.org",
        "ftp://example.org",
        "",
        "https://[::1",
    )
    assert [url for url in good if not may_see_keys(url, hosts)] == []
    assert [url for url in bad if may_see_keys(url, hosts)] == []
    assert may_see_keys("http://127.0.0.1:8/", ("127.0.0.1",)), "this machine itself"
    assert not may_see_keys("https://example.org", ("",))
    assert same_origin("https://a/x", "https://a/y")
    assert not same_origin("https://a/", "http://a/")


def test_when_signatures_end() -> None:
    assert ends_at("https://h/a?X-Amz-Date=20230102T030405Z&X-Amz-Expires=60") == datetime(
        2023, 1, 2, 3, 5, 5, tzinfo=UTC
    )
    assert ends_at("https://h/a?Expires=0&Signature=S") == datetime(1970, 1, 1, tzinfo=UTC)
    assert ends_at("https://h/a?se=2033-05-18T03%3A33%3A19Z&sig=S") == datetime(2033, 5, 18, 3, 33, 19, tzinfo=UTC)
    assert ends_at("https://h/a?Expires=soon") is None
    assert ends_at("https://h/a") is None


def test_a_catalog_keeps_its_keys_to_itself() -> None:
    url = "https://me:s3cretpw@h.example/api/?key=k3yk3y&page=2"
    catalog = find_catalog(url)
    assert (catalog.name, catalog.url) == ("https://h.example/api/?page=2",) * 2
    assert "s3cretpw" not in repr(catalog) + str(catalog.to_json())
    assert catalog.login.basic("https://h.example/x") == ("me", "s3cretpw")
    assert catalog.login.basic("http://h.example/x") is None
    assert catalog.login.basic("https://other.example/x") is None
    assert catalog.login.basic("https://h.example:443/x") == ("me", "s3cretpw")
    assert catalog.login.basic("https://h.example:8443/x") is None, "who listens there may be somebody else"
    assert catalog.login.with_parameters("https://h.example/a?b=1") == "https://h.example/a?b=1&key=k3yk3y"
    assert catalog.login.with_parameters("https://other.example/a") == "https://other.example/a"
    assert public_catalog(f"earth-search,{url}") == "earth-search,https://h.example/api/?page=2"
    assert redacted("it says s3cretpw k3yk3y") == "it says *** ***"
    assert secrets_in("https://u:a%40b@h/") == ["a%40b", "a@b"]
    assert not Login.of("https://h/")
    assert Login.of("https://:s3cretpw@h.example/").basic("https://h.example/x") == ("", "s3cretpw")
    assert Login.of("https://h.example/?k3y0fs0mebody123").parameters == (("k3y0fs0mebody123", ""),), "a key by itself"
    kept = Catalog("x", "x", "https://h/api").kept_in("/tmp/items.parquet")
    assert kept.is_local
    assert kept.is_foreign
    assert kept.kept_in("/tmp/again").is_foreign


BAD = "\x00\x07\x08\x1b\x7f\x85\x9b\u200b\u200e\u2028\u2029\u202e\u2066\ufeff\U000e0041\ud800"


@given(st.text())
@settings(max_examples=50, deadline=None)
def test_texts_are_printable(text: str) -> None:
    assert is_printable(printable(text + BAD))
    assert printable(printable(text)) == printable(text)
    if is_printable(text):
        assert printable(text) == text


def test_cells_are_no_formulas() -> None:
    assert [cell(text) for text in ("=1+1", "@x", "+x", "-x", "a=1", "-1.5", "\t=1", "", "line\nbreak")] == [
        "'=1+1",
        "'@x",
        "'+x",
        "'-x",
        "a=1",
        "-1.5",
        "\\x09=1",
        "",
        "line\\x0abreak",
    ]
    assert cell(5) == 5
    assert cell(None) is None
    table = as_cells(pd.DataFrame({"=a": ["=b", None], "n": [-1, 2]}))
    assert table.to_csv(index=False) == "'=a,n\n'=b,-1\n,2\n"


def test_a_log_has_a_line_per_record(caplog: pytest.LogCaptureFixture) -> None:
    remember("s3cret-of-the-log")
    record = logging.LogRecord(
        "a", 20, "f", 1, "item %s of %s", ("x\n\x1b[31m", "https://h/?token=tok3n s3cret-of-the-log"), None
    )
    assert LineFormatter("%(message)s").format(record) == "item x\\x0a\\x1b[31m of https://h/ ***"
    assert public_text("GET https://u:p@h/a?sig=S failed, 'http://h/?b=1'") == "GET https://h/a failed, 'http://h/?b=1'"


names = st.text(max_size=200) | st.sampled_from(
    ["..", ".", "", "CON", "aux.txt", "com1.tif", "a/b", "a\\b", "a\0b", "COM¹"]
)


@given(st.lists(names, max_size=30, unique=True))
@settings(max_examples=100, deadline=None)
def test_names_are_safe_and_never_alike(texts: list[str]) -> None:
    known = Names()
    made = [known.of(text) for text in texts]
    assert len({name.casefold() for name in made}) == len(texts)
    for text, name in zip(texts, made, strict=True):
        assert name
        assert is_below(name)
        assert not set(name) & set('/\\:*?"<>|\0')
        assert name not in (".", "..")
        assert not name.endswith((".", " "))
        assert not name.startswith((".", " ", "-", "~"))
        assert len(name.encode()) <= 200
        assert is_printable(name)
        assert name.partition(".")[0].upper() not in ("CON", "PRN", "AUX", "NUL", "COM1", "LPT1")
        assert known.of(text) == name
        assert safe_name(text) in (name, text) or not is_harmless(text)
    assert {known.table.get(name, name) for name in made} == set(texts)


def test_a_table_of_names_is_read_again_and_not_believed(tmp_path: Path) -> None:
    names = Names()
    made = {text: names.of(text) for text in ("../x", "A", "a", "plain")}
    (tmp_path / "names.json").write_bytes(names.to_bytes())
    again = Names.of_folder(tmp_path)
    assert {text: again.of(text) for text in reversed(made)} == made
    (tmp_path / "names.json").write_text('{"names": {"../../evil": "x", "x/../..": "y"}}')
    assert Names.of_folder(tmp_path).of("x") == "x"
    assert Names.of_folder(tmp_path).of("y") == "y"


def test_paths_stay_below_and_follow_no_link(tmp_path: Path) -> None:
    assert path_below(tmp_path, "a", "b.tif") == tmp_path / "a" / "b.tif"
    (tmp_path / "link").symlink_to(tmp_path.parent)
    for parts in (("..",), ("a/b",), ("",), ("link", "x"), ("a\0",), ("a\\b",)):
        with pytest.raises(BadInputError):
            path_below(tmp_path, *parts)
    assert [path for path in ("a", "a/b", "a..b") if not is_below(path)] == []
    assert [path for path in ("/a", "../a", "a/../../b", "\\a", "C:/a", "~/a", "a\0") if is_below(path)] == []


def test_waiting_ends() -> None:
    never = threading.Event()
    begun = time.monotonic()
    with pytest.raises(TooSlowError, match="the answer took longer than 0 s"):
        within(0.2, never.wait, "the answer")
    assert within(5, lambda: 7, "it") == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0, "it")
    threading.Timer(0.2, stop_waiting, (0.1,)).start()
    try:
        with pytest.raises(TooSlowError, match="asked to stop"):
            within(60, never.wait, "the answer")
    finally:
        wait_again()
    assert time.monotonic() - begun < 10

    def longer() -> int:
        deadline.extend(5)
        time.sleep(0.6)
        return 1

    assert within(0.3, longer, "what the server asked to wait for") == 1
    never.set()


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("https://TOKEN@h.example/x", "https://h.example/x"),
        ("//me:word@h.example/x?token=1", "//h.example/x"),
        ("https://h.example/x#access_token=abc", "https://h.example/x"),
        ("https://h.example/x;jsessionid=abc/y;v=1", "https://h.example/x/y;v=1"),
        ("https://h.example/x?code=abc&bbox=1", "https://h.example/x?bbox=1"),
        ("https://h.example/x?a%5Btoken%5D=abc", "https://h.example/x"),
        ("https://h.example/x?BEARER=abc", "https://h.example/x"),
        ("https://h.example/?url=https://u:p@i.example/x", "https://h.example/?url=https%3A%2F%2Fi.example%2Fx"),
        ("https://h.example/?url=https%3A%2F%2Fi%2Fx%3Fsig%3D1", "https://h.example/?url=https%3A%2F%2Fi%2Fx"),
        ("https://h.example/?url=https%3A%2F%2Fi%2Fx&bbox=1", "https://h.example/?url=https%3A%2F%2Fi%2Fx&bbox=1"),
        ("https://h.example/x?h=s1gnatureOfSomebody&e=99&page=2", "https://h.example/x?page=2"),
        ("https://h.example/x?s1gnatureOfSomebody", "https://h.example/x"),
        ("https://h.example/x?k=key-of-somebody-0123", "https://h.example/x"),
        ("https://h.example/x?temp_url_sig=abc&temp_url_expires=99", "https://h.example/x"),
        ("https://h.example/x?__gda__=exp=99~hmac=abc", "https://h.example/x"),
        ("https://h.example/hdntl=exp=99~acl=/*~hmac=abc/x.tif", "https://h.example/hdntl=exp=99~acl=/x.tif"),
        ("https://h.example/x?versionId=3sL4kqtJlcpXroDTDmJ", "https://h.example/x?versionId=3sL4kqtJlcpXroDTDmJ"),
        (
            "https://h.example/x?p=S2A_MSIL2A_20230714T102031_N0509",
            "https://h.example/x?p=S2A_MSIL2A_20230714T102031_N0509",
        ),
        ("/data/a;b=1/x.tif", "/data/a;b=1/x.tif"),
        ("//server/share/a@b.tif", "//server/share/a@b.tif"),
    ],
)
def test_keys_in_all_places_of_an_address(url: str, left: str) -> None:
    assert public(url) == left
    assert has_secret(url) == (url != left)


def test_keys_in_odd_places_are_blotted_out_of_messages() -> None:
    assert secrets_in("https://a-long-token-of-mine@h.example/x#access_token=abcd") == ["a-long-token-of-mine", "abcd"]
    assert secrets_in("https://h.example/x;token=abc?sig=5") == ["5", "abc"]
    assert secrets_in("https://data@h.example/x") == [], "a short name is a word of many messages"


def test_a_table_of_names_from_somebody_else_names_no_path(tmp_path: Path) -> None:
    table = {text: text for text in ("../../x", "/etc/x", "CON", "a")}
    (tmp_path / TABLE).write_text(json.dumps({"names": table}))
    names = Names.of_folder(tmp_path)
    assert all(is_harmless(names.of(text)) or "~" in names.of(text) for text in ("../../x", "/etc/x", "CON", "a"))
    assert names.of("a") == "a"


_MANY_LEVELS = '{"a":' * 100_000
"""No JSON, but Python's parser only knows that after 1000 levels."""


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("index.json", read_manifest),
        ("index.json", read_index_manifest),
        ("archive.json", read_archive),
        ("manifest.json", read_patch_manifest),
        ("zarr.json", open_cube),
    ],
    ids=["products", "scene index", "archive", "patches", "cube"],
)
def test_a_document_of_too_many_levels_is_refused_in_words(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    (tmp_path / name).write_text(_MANY_LEVELS)
    with pytest.raises(Stac2cubeError, match=re.escape(str(tmp_path))):
        read(tmp_path)


def test_a_table_of_names_of_too_many_levels_is_none(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text(_MANY_LEVELS)
    assert Names.of_folder(tmp_path).table == {}
