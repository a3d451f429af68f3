"""Credentials, endpoint and region of S3 buckets: keys from the usual places, passed to all readers in one form.

Sources of keys, first match: the environment, the profile's section of the credentials file and of the configuration
file (both as used by Amazon's tools), a role from the environment or that section. For roles, single sign-on and
programs that return keys, boto3 is used if installed; else GDAL, which supports some of them.
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
from stac2cube.trust.address import expanded, remember
from stac2cube.trust.text import printable

if TYPE_CHECKING:
    from botocore.credentials import Credentials


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_ROLES = (
    ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)
"""Sets of environment variables that define a role."""

_IN_SECTION = ("role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file")
"""Keys of a profile that define a role, single sign-on, or a program that returns keys."""


def is_true(text: str) -> bool:
    """Whether a setting is on, by GDAL's rule: everything except no, false, off and 0."""
    return text.strip().lower() not in ("no", "false", "off", "0", "")


def store_settings(*, pays: bool = False) -> dict[str, str]:
    """GDAL's settings for buckets of Amazon, or of the user's endpoint, with credentials.

    Without any credentials, buckets are read anonymously.

    Args:
        pays: Whether readers pay for the traffic, so that the store requires credentials.

    Raises:
        ReadError: Readers pay and there are no credentials; or the keys of a role cannot be obtained.
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
    """Key, secret and token ("" for none) of the reader; empty if none are found, although GDAL may find some.

    Raises:
        ReadError: A role is defined, and its keys cannot be obtained.
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
    """Whether there is any definition of credentials, which GDAL may support."""
    return _is_role() or _profile_is_named() or any(word in _section() for word in _IN_SECTION)


def _is_role() -> bool:
    return any(all(os.environ.get(name) for name in names) for names in _ROLES)


def _profile_is_named() -> bool:
    return bool(os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE"))


def section_of(name: str) -> dict[str, str]:
    """Settings of a profile in the files of Amazon's tools; the credentials file overrides the configuration.

    Args:
        name: Name of the profile.
    """
    places = (
        (os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config", ("default", f"profile {name}")),
        (os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", (name,)),
    )
    found: dict[str, str] = {}
    for place, names in places:
        path = expanded(place)
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
    # A key may contain a percent sign, so there is no interpolation; unreadable files are ignored.
    file = configparser.RawConfigParser(strict=False)
    try:
        file.read(path)
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}
    return {name: dict(file[name]) for name in file.sections()}


def _section() -> dict[str, str]:
    return section_of(os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default")


def _endpoint() -> dict[str, str]:
    """Settings of an endpoint other than Amazon's; empty for Amazon's.

    ``AWS_S3_ENDPOINT`` is GDAL's variable, with or without scheme; ``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL`` are
    those of Amazon's tools, with buckets addressed by path unless ``AWS_VIRTUAL_HOSTING`` says otherwise.
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
    # All settings are passed to GDAL each time: rasterio may hold old values of the environment, see its Env.__enter__.
    return {
        "AWS_S3_ENDPOINT": netloc + parts.path.rstrip("/"),
        "AWS_HTTPS": "YES" if secure else "NO",
        "AWS_VIRTUAL_HOSTING": os.environ.get("AWS_VIRTUAL_HOSTING", "TRUE" if said else "FALSE"),
    }


def _region() -> dict[str, str]:
    """The region from the environment, or the profile."""
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
    """Credentials, which renew their keys by themselves before these expire."""
    import boto3

    found: Credentials | None = boto3.Session().get_credentials()
    return found


def code_in(text: str) -> str:
    """The error code in an answer of S3, "" if there is none."""
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return found[1] if found else ""


def code_of_message(reason: str) -> str:
    """The error code of a refusal by S3 in a reader's message, "" if there is none.

    Older releases of GDAL report the HTTP status, newer ones the code and the message of the store, or only the latter.
    """
    if re.search(r"access key id (that )?you provided does not exist", reason, re.IGNORECASE):
        return "InvalidAccessKeyId"
    code = re.match(r"\w+", reason)
    return code[0] if code and code[0] in (*_ENDED, *_WRONG, "AccessDenied", "RequestTimeTooSkewed") else ""


def refusal_words(code: str, settings: Mapping[str, Any]) -> str:
    """Advice for a refusal by a store, "" if there is none.

    Args:
        code: Error code of S3 ("Error responses" of its API reference), or "" if the reader does not report it.
        settings: Settings of the request.
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
    """Description of a refusal by S3, as the end of a sentence; "" if the answer is not one of S3.

    Args:
        content: The answer, or its beginning.
    """
    code = code_in(content.decode("utf-8", "replace"))
    return f" ({code}). {refusal_words(code, {})}" if code else ""


_ENDED = ("ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException", "RequestExpired")
_WRONG = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "AuthFailure")
ELSEWHERE = (
    *("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect", "TemporaryRedirect"),
    *("IllegalLocationConstraintException", "IncorrectEndpoint", "Redirect"),
)
"""Error codes for a bucket in another region."""
