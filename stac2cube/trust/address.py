"""Addresses: their secret parts, who may receive keys, the end of signatures, and logins for catalogs.

A URL may carry keys in two places: a user and password before the host, and parameters behind the question mark. They
are used in memory and are never written. See docs/security.md.
"""

from __future__ import annotations

import ipaddress
import netrc
import os
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

_WORDS = frozenset(
    [
        "key",
        "apikey",
        "accesskey",
        "subscriptionkey",
        "token",
        "jwt",
        "sig",
        "sign",
        "signature",
        "secret",
        "password",
        "passwd",
        "pass",
        "pwd",
        "pw",
        "auth",
        "authorization",
        "credential",
        "credentials",
        "hmac",
        "ticket",
        "session",
        "sessionid",
        "jsessionid",
        "phpsessid",
        "sid",
        "sas",
        "policy",
        "user",
        "username",
        "login",
        "keypairid",
        "awsaccesskeyid",
        "hdnts",
        "ossaccesskeyid",
        "googleaccessid",
        "hdnea",
        "hdntl",
        "verify",
        "bearer",
        "code",
        "keys",
        "passcode",
        "passphrase",
        "ak",
        "sk",
    ]
)
"""Names of parameters that hold a key, without dashes, underscores and capitals."""

_ENDS = (
    "key",
    "token",
    "signature",
    "secret",
    "password",
    "credential",
    "apikey",
    "accesskeyid",
    "auth",
    "sig",
    "hmac",
)

_MEANT = frozenset(
    [
        *("id", "uuid", "version", "versionid", "generation", "item", "items", "collection", "collections", "product"),
        *("file", "filename", "path", "name", "asset", "assets", "url", "href", "layer", "layers", "band", "bands"),
        *("dataset", "scene", "granule", "tile", "cursor", "next", "page", "after", "before", "filter", "format", "f"),
    ]
)
"""Names of parameters whose value may look like a key but identifies the requested object."""

_FAMILIES = ("x-amz-", "x-goog-", "x-oss-", "x-obs-", "x-ms-", "q-sign", "q-ak", "q-key", "q-signature", "q-header")
"""Prefixes of parameters of signed requests (AWS, Google, Alibaba, Huawei, Azure, Tencent)."""

_AZURE = frozenset(
    [
        "sv",
        "ss",
        "srt",
        "se",
        "st",
        "sr",
        "sp",
        "spr",
        "sip",
        "si",
        "sig",
        "skoid",
        "sktid",
        "skt",
        "ske",
        "sks",
        "skv",
        "saoid",
        "suoid",
        "scid",
        "sdd",
        "ses",
        "rscc",
        "rscd",
        "rsce",
        "rscl",
        "rsct",
        "sduoid",
    ]
)
"""Parameters of a shared access signature (learn.microsoft.com, "Create a service SAS")."""

_BESIDE = frozenset(
    (
        "expires",
        "expiry",
        "exp",
        "temp_url_expires",
        "e",
        "md5",
        "hash",
        "st",
        "algorithm",
        "keyname",
        "key-pair-id",
        "urlprefix",
        "acl",
    )
)
"""Parameters that accompany a signature and mean nothing without one."""


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name holds a key, a password or a signature."""
    lower = unquote(name).strip().lower()
    plain = re.sub(r"[-_.\[\]]", "", lower)
    return plain in _WORDS or plain.endswith(_ENDS) or lower.startswith(_FAMILIES)


def is_secret(name: str, value: str) -> bool:
    """Whether a parameter is secret: by its name, or because its value looks like a key and its name is unknown.

    Signatures have many names: ``?h=``, ``?md5=``, ``?share=``, or none at all.

    Args:
        name: Text before the equals sign.
        value: Text after it, "" if there is none.
    """
    if is_secret_name(name):
        return True
    word = re.sub(r"[-_.]", "", unquote(name).lower())
    return word not in _MEANT and not word.endswith("id") and looks_like_a_key(unquote(value or name))


def looks_like_a_key(text: str) -> bool:
    """Whether a text looks random rather than written by people: long, with letters and digits, no words or dates.

    Args:
        text: A decoded value, or a part of a path.
    """
    if "hmac=" in text or "sig=" in text.lower():
        return True
    plain = text.rstrip("=")
    if len(plain) < 16 or not re.fullmatch(r"[A-Za-z0-9+/_=~-]+", plain) or plain.count("/") > len(plain) // 12:
        return False
    words = re.split(r"[-_+/=~]", plain)
    named = any(re.fullmatch(r"(?:19|20)\d{6}(?:T\d{6}Z?)?", word) for word in words)
    named = named or re.fullmatch(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", plain) is not None  # a UUID
    mixed = re.search(r"[A-Za-z]", plain) and re.search(r"\d", plain)
    spoken = any(word.lower() in _WORDS for word in words)
    return bool(mixed) and not named and (spoken or max(map(len, words)) >= 12)


def _public_query(query: str) -> str:
    """A query without its secret parts; every other parameter is unchanged."""
    parts = [part for part in re.split(r"[&;]", query) if part]
    names = [part.partition("=")[0] for part in parts]
    secret = [is_secret(name, part.partition("=")[2]) for name, part in zip(names, parts, strict=True)]
    if "://" in unquote(query):
        parts = [_with_public_value(part) for part in parts]
    elif not any(secret):
        return query
    lower = [unquote(name).strip().lower() for name in names]
    beside = _BESIDE | (_AZURE if "sig" in lower else frozenset())
    kept = [part for part, name, bad in zip(parts, lower, secret, strict=True) if not bad and name not in beside]
    return "&".join(kept)


def _with_public_value(part: str) -> str:
    """A parameter whose value may be an address, as for proxies and tilers."""
    name, mark, value = part.partition("=")
    inner = unquote(value)
    kept = public(inner)
    return part if kept == inner else f"{name}{mark}{quote(kept, safe='')}"


_OF_PATH = re.compile(r";([^=;/]+)=[^;/]*")
"""Parameters of a path segment (RFC 3986, 3.3), such as ``;jsessionid=...``."""


def _public_path(path: str) -> str:
    path = _OF_PATH.sub(lambda found: "" if is_secret_name(found[1]) else found[0], path)
    return re.sub(r"/[^/]*(?:~|=)(?:hmac|sig(?:nature)?)=[^/]*", "", path) if "=" in path else path


def public(url: str) -> str:
    """A URL without user, password and key-like parameters; other texts, and URLs without keys, are unchanged.

    Args:
        url: Any address, or a path.
    """
    if "://" not in url and not url.startswith("//"):
        path, mark, query = url.partition("?")
        kept = _public_query(query) if mark and path.startswith("/") else query
        return url if kept == query else path + (f"?{kept}" if kept else "")
    if not set(url) & set("@?#;") and "=" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return _BARE.sub("//", url.partition("?")[0])
    netloc = parts.netloc.rpartition("@")[2]
    query = _public_query(parts.query)
    fragment = _public_query(parts.fragment) if "=" in parts.fragment else parts.fragment
    path = _public_path(parts.path)
    if (netloc, path, query, fragment) == (parts.netloc, parts.path, parts.query, parts.fragment):
        return url
    return urlunsplit(SplitResult(parts.scheme, netloc, path, query, fragment))


def public_each(text: str) -> str:
    """Comma-separated addresses, names and paths, each :func:`public`."""
    if "://" not in text:
        return text
    return ",".join(public(part.strip()) if "://" in part else part for part in text.split(","))


_BARE = re.compile(r"//[^/\s\"'<>]*@")


def has_secret(url: str) -> bool:
    """Whether a URL carries a key."""
    return public(url) != url


def secrets_in(url: str) -> list[str]:
    """Parts of a URL that must not be repeated: its password and the values of key-like parameters, decoded or not."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found = []
    if "@" in parts.netloc:
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        # A long user name without password is the key itself; a short one is a name, and a word of many messages.
        found.append(password or (user if len(user) >= 16 else ""))
    of_path = (text[1:] for text in re.findall(r";[^;/]*", parts.path))
    for part in (*re.split(r"[&;]", parts.query), *re.split(r"[&;]", parts.fragment), *of_path):
        name, _, value = part.partition("=")
        if is_secret(name, value):
            found.append(value or name)
    return list(dict.fromkeys(text for value in found for text in (value, unquote(value)) if text))


_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>`]+")


def public_text(text: str) -> str:
    """A text with every address made :func:`public`."""
    return _IN_TEXT.sub(lambda found: public(found[0]), text) if "://" in text else text


def without_queries(text: str) -> str:
    """A text without possible secrets in its addresses: everything after a question mark, users and passwords.

    For messages: the name of an unknown signature does not matter there.
    """
    return _BARE.sub("//", re.sub(r"\?[^\s'\"]+", "", text))


def is_http(url: str) -> bool:
    """Whether an address is of HTTP or HTTPS, in any spelling of the scheme."""
    return url[:8].lower().startswith(("http://", "https://"))


def host_of(url: str) -> str:
    """The host of a URL in lower case, without user and port; "" if it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def port_of(url: str) -> int:
    """The port of a URL, by default that of its scheme; 0 if it has none."""
    try:
        parts = urlsplit(url)
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower(), 0)
    except ValueError:
        return 0


def is_loopback(url: str) -> bool:
    """Whether an address is of this machine itself, by its name or number."""
    host = host_of(url)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private_way(url: str) -> bool:
    """Whether no third party can read the connection: HTTPS, or this machine itself."""
    return url[:8].lower() == "https://" or (is_http(url) and is_loopback(url))


def may_see_keys(url: str, hosts: Collection[str]) -> bool:
    """Whether a key may be sent to an address.

    Args:
        url: The address.
        hosts: Hosts that may receive it, including subdomains; ``"example.org"`` covers ``"data.example.org"``.
    """
    host = host_of(url)
    names = [name.lower().strip(".") for name in hosts]
    return is_private_way(url) and any(name and (host == name or host.endswith(f".{name}")) for name in names)


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    try:
        first, second = urlsplit(one), urlsplit(other)
        return (first.scheme, host_of(one), first.port) == (second.scheme, host_of(other), second.port)
    except ValueError:
        return False


def ends_at(url: str) -> datetime | None:
    """End of the signature in a URL, UTC; None if it has none.

    Sources: AWS Signature Version 4 (X-Amz-Date, X-Amz-Expires, seconds), Version 2 and CloudFront (Expires, seconds
    since 1970), Google (X-Goog-Date, X-Goog-Expires), Azure (se, ISO 8601).
    """
    words = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    try:
        for family in ("x-amz-", "x-goog-"):
            if f"{family}date" in words and f"{family}expires" in words:
                begun = datetime.strptime(words[f"{family}date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return begun + timedelta(seconds=int(words[f"{family}expires"]))
        if "expires" in words:
            return datetime.fromtimestamp(int(words["expires"]), UTC)
        if "se" in words and "sig" in words:
            end = datetime.fromisoformat(words["se"])
            return end if end.tzinfo else end.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


# Known keys: no message repeats them.

_SECRETS: set[str] = set()
_LOCK = threading.Lock()

LEAST = 4
"""Minimum length of a key: shorter ones would blot out half of every text."""


def remember(*secrets: str) -> None:
    """Register keys, which :func:`redacted` replaces from now on, in this process."""
    with _LOCK:
        _SECRETS.update(secret for secret in secrets if len(secret) >= LEAST)


def redacted(text: str) -> str:
    """A text with each registered key replaced by ``***``."""
    with _LOCK:
        known = sorted(_SECRETS, key=len, reverse=True)
    for secret in known:
        if secret in text:
            text = text.replace(secret, "***")
    return text


# Logins for catalogs: user, password and keys, held in memory and sent to one host only.


@dataclass(frozen=True)
class Login:
    """The secrets of an address.

    Attributes:
        host: The host that may receive them, in lower case; "" for none.
        port: Its port; another port of the same host may belong to somebody else.
        user: Name, "" for none.
        password: Password.
        parameters: Key-like parameters of the query.
    """

    host: str = ""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    port: int = 0

    @classmethod
    def of(cls, url: str) -> Login:
        """The secrets in the address of a catalog; from now on messages do not repeat them."""
        parts = urlsplit(url)
        remember(*secrets_in(url))
        parameters = tuple(pair for pair in parse_qsl(parts.query, keep_blank_values=True) if is_secret(*pair))
        return cls(host_of(url), unquote(parts.username or ""), unquote(parts.password or ""), parameters, port_of(url))

    def __bool__(self) -> bool:
        """Whether there are any secrets."""
        return bool(self.user or self.password or self.parameters)

    def may_go_to(self, url: str) -> bool:
        """Whether an address may receive it: its own host and port, over HTTPS or on this machine."""
        here = (host_of(url), port_of(url)) == (self.host, self.port)
        return bool(self) and here and is_private_way(url)

    def with_parameters(self, url: str) -> str:
        """An address with the parameters added, if it may receive them and lacks them."""
        if not self.parameters or not self.may_go_to(url):
            return url
        parts = urlsplit(url)
        there = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        more = urlencode([pair for pair in self.parameters if pair[0] not in there])
        query = "&".join(part for part in (parts.query, more) if part)
        return urlunsplit(parts._replace(query=query))

    def basic(self, url: str) -> tuple[str, str] | None:
        """User and password for an address: those given, else those in ``~/.netrc`` for its host by name.

        The entry ``default`` of that file, which would match any host, is not used.
        """
        if (self.user or self.password) and self.may_go_to(url):
            return self.user, self.password
        if not is_private_way(url):
            return None
        return netrc_of(host_of(url))


NOBODY = Login()


def expanded(path: str | Path) -> Path:
    """A path with ``~`` and ``~user`` filled in; as in a shell, ``~`` stays where there is no such user or home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def netrc_path() -> Path:
    """The user's file of passwords: ``$NETRC``, else ``~/.netrc``."""
    return expanded(os.environ.get("NETRC") or "~/.netrc")


def netrc_of(host: str) -> tuple[str, str] | None:
    """User and password in the user's ``.netrc`` for a host; None if the host is missing or the file unreadable."""
    try:
        found = netrc.netrc(str(netrc_path())).hosts.get(host)
    except (OSError, netrc.NetrcParseError):
        return None
    if found is None:
        return None
    remember(found[2])
    return found[0] or found[1], found[2]
