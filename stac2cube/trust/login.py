"""Who asks a catalog: user, password and keys, held in memory and sent to one host only."""

from __future__ import annotations

import netrc
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from stac2cube.trust.address import host_of, is_private_way, is_secret, port_of, secrets_in
from stac2cube.trust.text import remember


@dataclass(frozen=True)
class Login:
    """What an address held that is nobody else's business.

    Attributes:
        host: The host that may see it, in lower case; "" for nobody.
        port: Its port; another one of the same host may be somebody else's.
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
        """What the address of a catalog holds; from now on messages do not repeat it."""
        parts = urlsplit(url)
        remember(*secrets_in(url))
        parameters = tuple(pair for pair in parse_qsl(parts.query, keep_blank_values=True) if is_secret(*pair))
        return cls(host_of(url), unquote(parts.username or ""), unquote(parts.password or ""), parameters, port_of(url))

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.user or self.password or self.parameters)

    def may_go_to(self, url: str) -> bool:
        """Whether an address may see it: its own host and port, over HTTPS or on this machine."""
        here = (host_of(url), port_of(url)) == (self.host, self.port)
        return bool(self) and here and is_private_way(url)

    def with_parameters(self, url: str) -> str:
        """An address with the parameters, if it may see them and does not have them."""
        if not self.parameters or not self.may_go_to(url):
            return url
        parts = urlsplit(url)
        there = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        more = urlencode([pair for pair in self.parameters if pair[0] not in there])
        query = "&".join(part for part in (parts.query, more) if part)
        return urlunsplit(parts._replace(query=query))

    def basic(self, url: str) -> tuple[str, str] | None:
        """User and password for an address: those given, else those that ``~/.netrc`` has for its host by name.

        The entry ``default`` of that file, which would go to anybody, is not used.
        """
        if (self.user or self.password) and self.may_go_to(url):
            return self.user, self.password
        if not is_private_way(url):
            return None
        return netrc_of(host_of(url))


NOBODY = Login()


def netrc_path() -> Path:
    """The user's file of passwords: ``$NETRC``, else ``~/.netrc``."""
    return Path(os.environ.get("NETRC") or "~/.netrc").expanduser()


def netrc_of(host: str) -> tuple[str, str] | None:
    """User and password that the user's ``.netrc`` has for a host; None if it does not name it or cannot be read."""
    try:
        found = netrc.netrc(str(netrc_path())).hosts.get(host)
    except (OSError, netrc.NetrcParseError):
        return None
    if found is None:
        return None
    remember(found[2])
    return found[0] or found[1], found[2]
