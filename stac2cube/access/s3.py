"""Who reads a bucket of S3, and where it is: keys from the usual places, handed to each reader in the same words.

Sources of keys, the first that has any: the environment, the profile's section of the credentials file and of the
configuration file (both as Amazon's tools know them), what the environment or that section says of a role. Of roles,
single sign-on and programs that give keys, boto3 is asked where it is installed; else GDAL, which knows some of them.
Sources: docs.aws.amazon.com/sdkref (settings of AWS' tools), gdal.org ("Network based file systems", /vsis3/).
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stac2cube.errors import ReadError
from stac2cube.trust.address import remember
from stac2cube.trust.text import printable

if TYPE_CHECKING:
    from botocore.credentials import Credentials


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_ROLES = (
    ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)
"""Environment variables that together name a role."""

_IN_SECTION = ("role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file")
"""Words of a profile that name a role, single sign-on, or a program that gives keys."""


def is_true(text: str) -> bool:
    """Whether a setting is on, as GDAL understands it: everything but no, false, off and 0."""
    return text.strip().lower() not in ("no", "false", "off", "0", "")


def store_settings(*, pays: bool = False) -> dict[str, str]:
    """GDAL's settings for buckets of Amazon, or of the endpoint that the user names, and who reads them.

    Where nothing says who reads, they are read as nobody.

    Args:
        pays: Whether readers pay for the traffic, so that the store wants to know who reads.

    Raises:
        ReadError: Readers pay, and nothing says who reads; or the keys of a role cannot be had.
    """
    where = _endpoint() | _region()
    said = os.environ.get("AWS_NO_SIGN_REQUEST")
    nobody = said is not None and is_true(said)
    who = {} if nobody else keys()
    if not who and (nobody or (said is None and not _is_known())):
        if pays:
            raise ReadError(
                "its readers pay for the traffic, so AWS wants to know who reads: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write ~/.aws/credentials"
                + ("; and AWS_NO_SIGN_REQUEST says nobody" if nobody else "")
            )
        return where | {"AWS_NO_SIGN_REQUEST": "YES"}
    named = who | {"AWS_NO_SIGN_REQUEST": "NO"} if who else {}
    return where | named | ({"AWS_REQUEST_PAYER": "requester"} if pays else {})


def keys() -> dict[str, str]:
    """Key, secret and token ("" for none) of who reads; empty where none are found, which GDAL may find.

    Raises:
        ReadError: A role is named, and its keys cannot be had.
    """
    found = {name: os.environ.get(name, "") for name in KEYS}
    if not (found[KEYS[0]] and found[KEYS[1]]):
        section = _section()
        found = {name: section.get(name.lower(), "") for name in KEYS}
        if (_is_role() and not _profile_is_named()) or not (found[KEYS[0]] and found[KEYS[1]]):
            found = _keys_of_role() if _is_role() or any(word in section for word in _IN_SECTION) else {}
    remember(*(found[name] for name in KEYS[1:] if found.get(name)))
    return found


def _is_known() -> bool:
    """Whether anything says who reads, which GDAL may understand."""
    return _is_role() or _profile_is_named() or any(word in _section() for word in _IN_SECTION)


def _is_role() -> bool:
    return any(all(os.environ.get(name) for name in names) for names in _ROLES)


def _profile_is_named() -> bool:
    return bool(os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE"))


def section_of(name: str) -> dict[str, str]:
    """What the files of Amazon's tools say of a profile; the credentials file goes before the configuration.

    Args:
        name: Of the profile.
    """
    places = (
        (os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config", ("default", f"profile {name}")),
        (os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", (name,)),
    )
    found: dict[str, str] = {}
    for place, names in places:
        path = Path(place).expanduser()
        try:
            status = path.stat()
        except OSError:
            continue
        sections = _sections(path, status.st_mtime_ns, status.st_size)
        for section in names if name == "default" else names[-1:]:
            found |= sections.get(section, {})
    return found


@lru_cache(maxsize=16)
def _sections(path: Path, _modified: int, _size: int) -> Mapping[str, Mapping[str, str]]:
    # A key may hold a percent sign; of a file that nobody can read, nothing is known.
    file = configparser.RawConfigParser(strict=False)
    try:
        file.read(path)
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}
    return {name: dict(file[name]) for name in file.sections()}


def _section() -> dict[str, str]:
    return section_of(os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default")


def _endpoint() -> dict[str, str]:
    """Settings of an endpoint that is not Amazon's; empty for Amazon's.

    ``AWS_S3_ENDPOINT`` is GDAL's word, with or without scheme; ``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL`` are
    those of Amazon's tools, of which buckets are asked for by path unless ``AWS_VIRTUAL_HOSTING`` says otherwise.
    """
    said = os.environ.get("AWS_S3_ENDPOINT", "")
    ignored = is_true(os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "no"))
    url = "" if said or ignored else os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if not (said or url or ignored):
        url = _section().get("endpoint_url", "")
    if not (said or url):
        return {}
    try:
        parts = urlsplit(url or (said if "://" in said else f"https://{said}"))
        netloc = parts.netloc if parts.scheme in ("http", "https") and parts.hostname else ""
    except ValueError:
        netloc = ""
    if not netloc or "@" in netloc:
        raise ReadError(f"the endpoint {printable(url or said)!r} is no address of http or https")
    secure = parts.scheme == "https" and ("://" in (url or said) or is_true(os.environ.get("AWS_HTTPS", "YES")))
    # All of it is said to GDAL each time: rasterio may hold what the environment said before, see Env.__enter__ there.
    return {
        "AWS_S3_ENDPOINT": netloc + parts.path.rstrip("/"),
        "AWS_HTTPS": "YES" if secure else "NO",
        "AWS_VIRTUAL_HOSTING": os.environ.get("AWS_VIRTUAL_HOSTING", "TRUE" if said else "FALSE"),
    }


def _region() -> dict[str, str]:
    """The region that the environment names, or the profile."""
    said = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _section().get("region", "")
    return {"AWS_REGION": said} if re.fullmatch(r"[A-Za-z0-9\-]+", said) else {}


def _keys_of_role() -> dict[str, str]:
    if find_spec("boto3") is None:
        return {}
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    named = tuple(sorted((name, text) for name, text in os.environ.items() if name.startswith("AWS_")))
    try:
        credentials = _credentials(named)
        frozen = None if credentials is None else credentials.get_frozen_credentials()
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise ReadError(f"no keys for S3 could be had of the role or profile: {type(error).__name__}") from None
    if frozen is None:
        return {}
    return dict(zip(KEYS, (frozen.access_key, frozen.secret_key, frozen.token or ""), strict=True))


@lru_cache(maxsize=8)
def _credentials(_named: tuple[tuple[str, str], ...]) -> Credentials | None:
    """They ask for new keys by themselves when those they have are about to end."""
    import boto3

    found: Credentials | None = boto3.Session().get_credentials()
    return found


def code_in(text: str) -> str:
    """The code of S3's error in what a store answers, "" if there is none."""
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return found[1] if found else ""


def code_of_message(reason: str) -> str:
    """The code of S3's error that a reader's message tells, "" if it tells none of a refusal.

    Older releases of GDAL tell the status of HTTP, newer ones the code and what the store says, or the latter alone.
    """
    if re.search(r"access key id (that )?you provided does not exist", reason, re.IGNORECASE):
        return "InvalidAccessKeyId"
    code = re.match(r"\w+", reason)
    return code[0] if code and code[0] in (*_ENDED, *_WRONG, "AccessDenied", "RequestTimeTooSkewed") else ""


def refusal_words(code: str, settings: Mapping[str, Any]) -> str:
    """What to do where a store refuses, "" if there is nothing to be said.

    Args:
        code: Of S3's error ("Error responses" of its API reference), or "" where the reader does not tell.
        settings: With which it was asked.
    """
    if code in _ENDED:
        return "The keys have expired: get new ones, where these came from, and run the same command again"
    if code in _WRONG:
        return "The store does not know these keys: they are wrong, or of another service"
    if code == "RequestTimeTooSkewed":
        return "The clock of this machine is wrong, and the store goes by it"
    if is_true(str(settings.get("AWS_NO_SIGN_REQUEST") or "no")):
        return "It was asked for as nobody: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if code:
        return "The keys do not open it, or its readers pay (set AWS_REQUEST_PAYER=requester)"
    return "The keys may be wrong or have expired, or do not open it"


def refusal_in(content: bytes) -> str:
    """What an answer of S3 that refuses says, as the end of a sentence; "" if it is none of S3's.

    Args:
        content: The answer, or how it begins.
    """
    code = code_in(content.decode("utf-8", "replace"))
    return f" ({code}). {refusal_words(code, {})}" if code else ""


_ENDED = ("ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException", "RequestExpired")
_WRONG = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "AuthFailure")
ELSEWHERE = (
    *("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect", "TemporaryRedirect"),
    *("IllegalLocationConstraintException", "IncorrectEndpoint", "Redirect"),
)
"""Codes by which a store says that a bucket lies in another region."""
