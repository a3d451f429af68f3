"""Fetching what samples need from a catalog into a folder, with an account of every file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stac2cube.catalog import Catalog, find_catalog
from stac2cube.cube.files import remove_partials, write_whole
from stac2cube.errors import BadInputError, CatalogError, IncompleteError, ReadError
from stac2cube.names import TABLE, Names, path_below, require_own
from stac2cube.progress import Progress
from stac2cube.scene import AssetRef
from stac2cube.source import cdse
from stac2cube.source.cog.header import NotForUsError
from stac2cube.source.cog.remote import address_of_s3
from stac2cube.source.hrefs import check_href
from stac2cube.source.sign import is_remote, opening, readable
from stac2cube.training.acquisitions import DownloadRequest, WantedFile, wanted_files
from stac2cube.training.documents import made_folder
from stac2cube.training.fetch import Fetcher, RemoteFile, StoppedError, Verified, damage, hasher, is_there
from stac2cube.training.manifest import MANIFEST, FileEntry, Manifest, check_tables, read_manifest, write_manifest
from stac2cube.training.roles import parse_roles
from stac2cube.trust.address import is_http, public
from stac2cube.trust.text import shown

log = logging.getLogger(__name__)

CONNECTIONS = 4
"""Files fetched at a time: as many as the Copernicus Data Space allows one person (its documentation, quotas)."""


@dataclass
class Fetched:
    """What a run did.

    Attributes:
        manifest: The folder as it is now.
        new: Files fetched.
        there: Files that were there already.
        absent: Of the files asked for, those that are not there, each with its reason.
        stopped: Whether it was asked to stop before it was through.
    """

    manifest: Manifest
    new: list[FileEntry] = field(default_factory=list)
    there: list[FileEntry] = field(default_factory=list)
    absent: list[FileEntry] = field(default_factory=list)
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 2 some files are not there, 10 stopped in time: after 2 and 10 the same command goes on."""
        return 10 if self.stopped else 2 if self.absent else 0


def download_products(
    request: DownloadRequest,
    folder: str | Path,
    *,
    connections: int = CONNECTIONS,
    tables: Sequence[str] = ("csv",),
    verify: bool = False,
) -> Manifest:
    """Fetch files of products by their role, and write a manifest that every command takes as a catalog.

    Running it again fetches what lacks, and goes on with what broke off.

    Args:
        request: What.
        folder: Where to: a folder per product, and ``index.json``.
        connections: Files fetched at a time.
        tables: Formats of the account for people: ``"csv"``, ``"parquet"``, ``"xlsx"``.
        verify: Reckon the checksums of files that are there already anew.

    Returns:
        The manifest.

    Raises:
        BadInputError: A word is wrong, or the folder cannot be written.
        NothingFoundError: There is no acquisition.
        CatalogError: The catalog cannot be read.
        IncompleteError: Some files are not there; the manifest names them with the reason.
    """
    done = run_download(request, Path(folder), connections=connections, tables=tables, fetcher=Fetcher(), verify=verify)
    if done.absent:
        reasons = "; ".join(f"{entry.scene} {entry.role}: {entry.reason}" for entry in done.absent)
        raise IncompleteError(f"{len(done.absent)} file(s) are not there, run again to try them: {reasons}")
    return done.manifest


def run_download(
    request: DownloadRequest,
    folder: Path,
    *,
    fetcher: Fetcher,
    connections: int = CONNECTIONS,
    tables: Sequence[str] = ("csv",),
    verify: bool = False,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch; raises what :func:`download_products` does, but for absent files, which the result has."""
    if connections < 1:
        raise BadInputError(f"connections are 1 or more, not {connections}")
    check_tables(tables)
    catalog = find_catalog(request.catalog)
    before = read_manifest(folder) if (folder / MANIFEST).exists() else None
    wanted = wanted_files(request)
    if catalog.signer == "cdse" and fetcher.tokens is None:
        fetcher = replace(fetcher, tokens=cdse.Tokens(cdse.CDSE))
    made_folder(folder)
    for name in (MANIFEST, *(f"files.{kind}" for kind in tables)):
        require_own(folder / name, "the account of a download")
    names = Names.of_folder(folder)
    wanted = [_placed(one, names) for one in wanted]
    remove_partials(folder)
    result = Fetched(Manifest(catalog.name, (), (), ()))
    entries = {_place(one): _absent(one, "not fetched yet") for one in wanted}
    own = Own(folder, frozenset() if before is None else frozenset(entry.path for entry in before.files))
    if names.table:
        write_whole(path_below(folder, TABLE), names.to_bytes())
    # What this run is about to write is its own, also after it was killed: the account says so before any file comes.
    write_manifest(folder, _merged(before, request, catalog, wanted, _kept(before, entries)), ())
    progress = progress or Progress()
    pool = ThreadPoolExecutor(connections, thread_name_prefix="fetch")
    try:
        with progress.over(len(wanted)):
            running = {pool.submit(_fetch, one, own, fetcher, catalog, verify): one for one in wanted}
            for future in as_completed(running):
                entry, new = future.result()
                entries[_place(running[future])] = entry
                if entry.state == "there":
                    (result.new if new else result.there).append(entry)
                else:
                    log.info("%s %s: %s", entry.scene, entry.role, entry.reason)
                progress.advance()
    except BaseException:
        fetcher.stop.set()  # whoever ends this, the others stop at their next chunk
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        result.stopped = fetcher.stop.is_set()
        result.manifest = _merged(before, request, catalog, wanted, entries)
        write_manifest(folder, result.manifest, tables)
    result.absent = [entry for entry in entries.values() if entry.state != "there"]
    return result


@dataclass(frozen=True)
class Own:
    """Which files of a folder may be replaced: those that its account lists.

    Attributes:
        folder: The folder.
        paths: Relative paths that the account listed before.
    """

    folder: Path
    paths: frozenset[str]

    def path_of(self, one: WantedFile) -> Path:
        """Where a file shall lie.

        Raises:
            ReadError: There is a link on the way, or something of somebody else's.
        """
        try:
            path = path_below(self.folder, *one.path.split("/"))
            require_own(path, "what the catalog has")
            require_own(path.with_name(f"{path.name}.part"), "what the catalog has")
        except BadInputError as error:
            raise ReadError(str(error)) from None
        if one.path not in self.paths and path.exists() and not self._is_it(one, path):
            raise ReadError(f"{path} is there, and is none of this folder's files: name another folder, or remove it")
        return path

    @staticmethod
    def _is_it(one: WantedFile, path: Path) -> bool:
        """Whether what is there is the very file, by its checksum."""
        checksum = str(one.about.get("file:checksum") or "")
        return hasher(checksum) is not None and not damage(RemoteFile("", one.size, checksum), path)


def _placed(one: WantedFile, names: Names) -> WantedFile:
    """A file with the folder that its item's id has for a name here."""
    if one.item is None or not one.path:
        return one
    return replace(one, path=f"{names.of(str(one.item['id']))}/{one.path.partition('/')[2]}")


def _kept(before: Manifest | None, entries: Mapping[Place, FileEntry]) -> dict[Place, FileEntry]:
    """What is wanted, as the account has it already where it has it."""
    known = {} if before is None else {(entry.scene, entry.role, entry.item): entry for entry in before.files}
    return {place: known.get(place, entry) for place, entry in entries.items()}


Place = tuple[str, str, str]
"""Scene, role and item of a file."""


def _place(one: WantedFile) -> Place:
    return one.scene, one.role.word, "" if one.item is None else str(one.item["id"])


def _fetch(one: WantedFile, own: Own, fetcher: Fetcher, catalog: Catalog, verify: bool) -> tuple[FileEntry, bool]:
    """Fetch one file; what became of it, and whether it is new."""
    if one.reason:
        return _absent(one), False
    checksum = str(one.about.get("file:checksum") or "")
    known = RemoteFile("", one.size, checksum)
    try:
        path = own.path_of(one)
        if is_there(known, path) and not (verify and damage(known, path)):
            verified: Verified = "checksum" if hasher(checksum) else "size" if one.size is not None else "nothing"
            return _there(one, path, verified), False
        if fetcher.stop.is_set():
            raise StoppedError
        verified = fetcher.fetch(replace(known, href=address_of(one, catalog)), path)
        return _there(one, path, verified), True
    except StoppedError:
        return _absent(one, "stopped before it was there"), False
    except (ReadError, CatalogError) as error:
        return _absent(one, shown(error)), False


def address_of(one: WantedFile, catalog: Catalog) -> str:
    """Where a file is fetched from: a path or an address over HTTP(S), signed where that is needed.

    Raises:
        ReadError: There is no way to it.
        CatalogError: OData does not answer, or the catalog may not name it.
    """
    assert one.item is not None  # what has no item has a reason
    check_href(str(one.item["id"]), one.asset, one.about.get("href"), catalog)
    href = one.signed or str(one.about["href"])
    alternate = one.about.get("alternate")
    https = alternate.get("https") if isinstance(alternate, Mapping) else None
    if href.startswith("s3:") and isinstance(https, Mapping) and is_http(str(https.get("href"))):
        return cdse.repaired(str(https["href"]))
    if href.startswith("s3:") and catalog.signer == "cdse":
        inside = str(one.about.get("file:local_path") or "") or href[href.find(".SAFE") :]
        product, found, rest = inside.partition(".SAFE")
        product = product or href.partition(".SAFE")[0].rpartition("/")[2]
        if not found or not rest:
            raise ReadError(f"{href}: OData cannot be asked for it, since it names no product")
        number = cdse.product_id(cdse.CDSE, f"{product}.SAFE")
        return cdse.node_url(cdse.CDSE, number, f"{product}.SAFE{rest}")
    if href.startswith("s3:"):
        return _signed_s3(AssetRef(public(href)), one.signer)
    return readable(href, one.signer).removeprefix("/vsicurl/") if is_remote(href) else href


def _signed_s3(asset: AssetRef, signer: str) -> str:
    """An address of HTTP(S) that opens a file of S3, by the keys that there are."""
    try:
        return address_of_s3(opening(asset, signer))
    except ImportError:
        raise ReadError(f"{asset.href} is to be had by S3 only: pip install 'stac2cube[index]'") from None
    except NotForUsError as error:
        raise ReadError(f"{asset.href}: {error}; for S3: pip install 'stac2cube[s3]'") from None


def _there(one: WantedFile, path: Path, verified: Verified) -> FileEntry:
    assert one.item is not None  # what has no item has a reason
    checksum = str(one.about.get("file:checksum") or "")
    words = (one.scene, one.role.word, str(one.item["id"]), one.path)
    return FileEntry(*words, state="there", size=path.stat().st_size, checksum=checksum, verified=verified)


def _absent(one: WantedFile, reason: str = "") -> FileEntry:
    return FileEntry(
        scene=one.scene,
        role=one.role.word,
        item="" if one.item is None else str(one.item["id"]),
        path=one.path,
        state="missing" if one.reason else "failed",
        reason=one.reason or reason,
        size=one.size,
        checksum=str(one.about.get("file:checksum") or ""),
    )


def _merged(
    before: Manifest | None,
    request: DownloadRequest,
    catalog: Catalog,
    wanted: Sequence[WantedFile],
    entries: Mapping[Place, FileEntry],
) -> Manifest:
    """What the folder holds now: what is new, and what it held of other scenes, or of other roles of the same items."""
    items: dict[str, dict[str, Any]] = {}
    files = dict(entries)
    newest: dict[tuple[str, str], set[str]] = {}
    for one in wanted:
        if one.item is not None:
            newest.setdefault((one.scene, one.role.level), set()).update((str(one.item["id"]), *one.parts))
    for entry in () if before is None else before.files:
        replaced = entry.item not in newest.get((entry.scene, entry.role.partition(".")[0]), {entry.item})
        if not replaced:
            files.setdefault((entry.scene, entry.role, entry.item), entry)
    kept = {entry.item for entry in files.values()}
    for item in () if before is None else before.items:
        if item["id"] in kept:
            items[str(item["id"])] = {**item, "assets": dict(item["assets"])}
    for one in wanted:
        if one.item is None:
            continue
        item = items.setdefault(str(one.item["id"]), {**one.item, "assets": {}, "links": []})
        if files[_place(one)].state == "there":
            item["assets"][one.asset] = _local(one)
        else:
            item["assets"].pop(one.asset, None)
    words = [role.word for role in parse_roles(request.roles, catalog.like)]
    return Manifest(
        catalog=catalog.name,
        roles=tuple(dict.fromkeys([*([] if before is None else before.roles), *words])),
        files=tuple(sorted(files.values(), key=lambda entry: (entry.scene, entry.role, entry.item))),
        items=tuple(items[name] for name in sorted(items) if items[name]["assets"]),
    )


def _local(one: WantedFile) -> dict[str, Any]:
    """The asset as it is in the folder; where it came from is noted, without signatures."""
    kept = {key: value for key, value in one.about.items() if not key.startswith(("alternate", "auth:", "storage:"))}
    return {**kept, "href": one.path, "stac2cube:role": one.role.word, "stac2cube:source": public(str(kept["href"]))}
