"""The key of a run: a certificate made for it alone, without which nobody talks to its scheduler and workers."""

from __future__ import annotations

import shutil
import ssl
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Security

from stac2cube.errors import PlaceError

EARLY = timedelta(days=1)
"""So much before now the certificate is valid, for nodes whose clocks are late. Dask's own ``Security.temporary()``
makes certificates that such a node refuses."""

LONG = timedelta(days=366)
"""So long it is valid: longer than any build."""


_CLEARING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class SteadySocket(ssl.SSLSocket):
    """A connection that is not taken for broken because another one is.

    Python 3.13 leaves what a write to a closed connection raised in OpenSSL's queue of errors, and the next read of the
    same thread raises it again, whatever connection it is of. Dask's nannies close theirs early, and the scheduler then
    lost its client and its workers. With the queue cleared what is really broken says so a second time.
    """

    def read(self, len: int | None = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the name of its base
        """See ssl.SSLSocket."""
        try:
            return super().read(len or 1024, buffer)
        except (BrokenPipeError, ConnectionResetError):
            # A cipher that is none: the one public call that clears the queue.
            with suppress(ssl.SSLError):
                _CLEARING.set_ciphers("NONE-SUCH")
            return super().read(len or 1024, buffer)


class SteadySecurity(Security):
    """Dask's security with :class:`SteadySocket`."""

    __slots__ = Security.__slots__  # by which its constructor knows the words it takes

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """See distributed.Security."""
        return _steady(super().get_connection_args(role))  # type: ignore[no-untyped-call] # distributed's

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """See distributed.Security."""
        return _steady(super().get_listen_args(role))  # type: ignore[no-untyped-call] # distributed's


def _steady(words: dict[str, Any]) -> dict[str, Any]:
    words["ssl_context"].sslsocket_class = SteadySocket
    return words


@dataclass(frozen=True)
class Keys:
    """A self-signed certificate and its key, PEM text.

    Attributes:
        certificate: What both sides of a connection must show, and trust.
        key: The secret.
    """

    certificate: str
    key: str = field(repr=False)

    @classmethod
    def made(cls) -> Keys:
        """New ones."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stac2cube")])
        subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(now + LONG)
            # What OpenSSL's strict checks, on from Python 3.13 on, want of a certificate that is its own root.
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(subject, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return cls(certificate.public_bytes(pem).decode(), secret.decode())

    def security(self) -> Security:
        """What scheduler, workers and client of one process are given."""
        pair = {f"tls_{role}_cert": self.certificate for role in ("client", "scheduler", "worker")}
        pair |= {f"tls_{role}_key": self.key for role in ("client", "scheduler", "worker")}
        pair |= {"tls_ca_file": self.certificate}
        return SteadySecurity(require_encryption=True, **pair)  # type: ignore[no-untyped-call] # distributed's

    @contextmanager
    def stored(self, folder: Path) -> Iterator[Path]:
        """A folder with ``certificate.pem`` and ``key.pem`` for jobs on other nodes, removed when the context ends.

        Args:
            folder: On a file system that all nodes see.

        Raises:
            PlaceError: Others could read the key there.
        """
        own = Path(tempfile.mkdtemp(prefix=".keys-", dir=folder))
        try:
            for name, text in (("certificate.pem", self.certificate), ("key.pem", self.key)):
                path = own / name
                path.touch(mode=0o600)
                if any(stat.S_IMODE(one.stat().st_mode) & 0o077 for one in (own, path)):
                    raise PlaceError(
                        f"{folder} lies on a file system that keeps no permissions: others could read the key of the "
                        "worker jobs; say a folder of another one as `logs` of the site"
                    )
                path.write_text(text)
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)
