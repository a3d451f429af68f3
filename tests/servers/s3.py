"""A real S3 server on this machine: moto's, which checks every signature; and what of S3 moto does not do.

moto keeps no end of session tokens, lets nobody pay, takes requests for any region, and answers none without a name.
Before it stands what answers for those in the words of Amazon S3 (API reference, "Error responses").
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import boto3
import urllib3
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"],
            }
        ],
    }
)


@dataclass(frozen=True)
class Keys:
    """Of somebody."""

    key: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)

    @property
    def variables(self) -> dict[str, str]:
        """As the environment has them."""
        named = {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return named | ({"AWS_SESSION_TOKEN": self.token} if self.token else {})

    def section(self, name: str) -> str:
        """As a file has them."""
        lines = [f"[{name}]", f"aws_access_key_id = {self.key}", f"aws_secret_access_key = {self.secret}"]
        return "\n".join([*lines, *([f"aws_session_token = {self.token}"] if self.token else [])]) + "\n"


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        method: ``"GET"``.
        path: With the bucket.
        host: Which the client asked.
        headers: Those that say who asks: ``authorization`` and those that begin with ``x-amz-``.
        status: Of the answer.
    """

    method: str
    path: str
    host: str
    headers: dict[str, str]
    status: int


@dataclass
class S3Server:
    """What a test sees of the server.

    Attributes:
        port: Of 127.0.0.1.
        asked: Every request.
        ended: Session tokens that have expired.
        paying: Buckets whose readers pay.
        regions: Region by bucket, of those that insist on it.
        moved: By bucket the host to which its requests are sent on.
        handed_out: What the endpoint of a container gives.
        public: Buckets that anybody may read.
        admin: Who makes buckets and users.
        known: All keys, by their names.
        clients: Of Amazon's own library, by service.
    """

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    paying: set[str] = field(default_factory=set)
    regions: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    handed_out: Keys | None = None
    public: set[str] = field(default_factory=set)
    admin: Keys = Keys("none", "none")
    clients: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Keys] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def client(self, service: str) -> Any:
        """Of Amazon's own library, as the one who may do everything; made before tests say who reads."""
        return self.clients[service]

    def enter(self, keys: Keys) -> None:
        """Let clients be of somebody."""
        for service in ("s3", "iam", "sts"):
            self.clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name="eu-central-1",
                aws_access_key_id=keys.key,
                aws_secret_access_key=keys.secret,
                config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
            )

    def user(self, name: str) -> Keys:
        """Keys of a new user, who may do everything."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=EVERYTHING)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return self._noted(Keys(made["AccessKeyId"], made["SecretAccessKey"]))

    def role(self, name: str) -> str:
        """The ARN of a new role, which may do everything."""
        iam = self.client("iam")
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=EVERYTHING)
        return arn

    def session(self, arn: str) -> Keys:
        """Keys with a token, of a role."""
        made = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return self._noted(Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]))

    def _noted(self, keys: Keys) -> Keys:
        self.known[keys.key] = keys
        return keys

    def put(self, bucket: str, *files: Path) -> None:
        """A bucket with some files."""
        client = self.client("s3")
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        for path in files:
            client.put_object(Bucket=bucket, Key=path.name, Body=path.read_bytes())


Start = Callable[..., Any]
Refusal = tuple[str, str, str, list[tuple[str, str]]]
"""Status, code, further elements of the body, and headers."""


def _as_headers(query: dict[str, str]) -> dict[str, str]:
    """What an address that is signed says, as headers would."""
    named = {"authorization": f"Credential={query['X-Amz-Credential']}"}
    lower = {name.lower(): value for name, value in query.items()}
    return named | {name: lower[name] for name in ("x-amz-security-token", "x-amz-request-payer") if name in lower}


@dataclass
class _Gate:
    """A WSGI application before another."""

    state: S3Server
    behind: Callable[[dict[str, Any], Start], Iterable[bytes]]

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        names = [name for name in environ if name.startswith(("HTTP_AUTHORIZATION", "HTTP_X_AMZ_"))]
        headers = {name.removeprefix("HTTP_").replace("_", "-").lower(): environ[name] for name in names}
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]

        def noted(status: str, *rest: Any) -> Any:
            self.state.asked.append(Asked(method, path, environ["HTTP_HOST"], headers, int(status[:3])))
            return start(status, *rest)

        if path == "/container" and self.state.handed_out:
            made = self.state.handed_out
            words = {"AccessKeyId": made.key, "SecretAccessKey": made.secret, "Token": made.token}
            noted("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({**words, "Expiration": "2099-01-01T00:00:00Z"}).encode()]
        query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        if method == "POST" and path == "/" and "authorization" not in headers:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
            query = {name: values[0] for name, values in parse_qs(body).items()}
        if query.get("Action") == "AssumeRoleWithWebIdentity":
            return self._web_identity(query, noted)
        bucket = path.split("/")[1]
        if "X-Amz-Signature" in query:  # moto takes any
            headers |= _as_headers(query)
        refusal = self._refusal(bucket, headers) or self._query_refusal(environ, query)
        if refusal is None:
            if "HTTP_AUTHORIZATION" not in environ and bucket not in ("", "moto-api"):
                self._sign(environ)
            return self.behind(environ, noted)
        status, code, more, named = refusal
        noted(status, [("Content-Type", "application/xml"), *named])
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message>{more}</Error>"
        return [] if method == "HEAD" else [body.encode()]

    def _refusal(self, bucket: str, headers: dict[str, str]) -> Refusal | None:
        """What of S3 moto does not do."""
        if headers.get("x-amz-security-token") in self.state.ended:
            return "400 Bad Request", "ExpiredToken", "<Token-0>x</Token-0>", []
        if bucket in self.state.moved:
            there = self.state.moved[bucket]
            more = f"<Endpoint>{there}</Endpoint><Bucket>{bucket}</Bucket>"
            named = [("Location", f"http://{there}/{bucket}/a.tif")]
            return "301 Moved Permanently", "PermanentRedirect", more, named
        nameless = "authorization" not in headers and bucket not in self.state.public
        region = self.state.regions.get(bucket)
        if nameless and bucket not in ("", "moto-api"):
            return "403 Forbidden", "AccessDenied", "", [("x-amz-bucket-region", region)] if region else []
        if bucket in self.state.paying and headers.get("x-amz-request-payer") != "requester":
            return "403 Forbidden", "AccessDenied", "", []
        signed = headers.get("authorization", "").partition("Credential=")[2].split("/")
        if region and len(signed) > 2 and signed[2] != region:
            named = [("x-amz-bucket-region", region)]
            return "400 Bad Request", "AuthorizationHeaderMalformed", f"<Region>{region}</Region>", named
        return None

    def _query_refusal(self, environ: dict[str, Any], query: dict[str, str]) -> Refusal | None:
        """Of requests whose signature stands in their address."""
        if "X-Amz-Signature" not in query:
            return None
        key, _, region, *_ = query["X-Amz-Credential"].split("/")
        known = self.state.known.get(key)
        if known is None or known.token != query.get("X-Amz-Security-Token", ""):
            return "403 Forbidden", "InvalidAccessKeyId", "", []
        asked, signature = environ["QUERY_STRING"].split("&X-Amz-Signature=")
        url = f"http://{environ['HTTP_HOST']}{quote(environ['PATH_INFO'])}?{asked}"
        request = AWSRequest(environ["REQUEST_METHOD"], url, headers={"host": environ["HTTP_HOST"]})
        request.context["timestamp"] = query["X-Amz-Date"]
        auth = S3SigV4QueryAuth(Credentials(known.key, known.secret), "s3", region, int(query["X-Amz-Expires"]))
        made = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        return None if made == signature else ("403 Forbidden", "SignatureDoesNotMatch", "", [])

    def _web_identity(self, query: dict[str, str], start: Start) -> Iterable[bytes]:
        """As GDAL asks: by GET, which moto does not know."""
        made = self.state.session(query["RoleArn"])
        start("200 OK", [("Content-Type", "text/xml")])
        words = (
            f"<AccessKeyId>{made.key}</AccessKeyId><SecretAccessKey>{made.secret}</SecretAccessKey>"
            f"<SessionToken>{made.token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        )
        name = "AssumeRoleWithWebIdentity"
        body = f"<{name}Response><{name}Result><Credentials>{words}</Credentials></{name}Result></{name}Response>"
        return [body.encode()]

    def _sign(self, environ: dict[str, Any]) -> None:
        """Let moto see a request of the owner's in place of nobody's."""
        url = f"http://{environ['HTTP_HOST']}{quote(environ['PATH_INFO'])}"
        request = AWSRequest(environ["REQUEST_METHOD"], url, headers={})
        S3SigV4Auth(Credentials(self.state.admin.key, self.state.admin.secret), "s3", "eu-central-1").add_auth(request)
        environ["QUERY_STRING"] = ""
        environ["RAW_URI"] = environ["REQUEST_URI"] = quote(environ["PATH_INFO"])
        for name, value in request.headers.items():
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value


class _Silent(MotoRequestHandler):
    def log_request(self, *_: object) -> None: ...


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """The server, with authentication switched on."""
    state = S3Server()
    gate = _Gate(state, DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=_Silent)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        state.enter(state.admin)
        state.admin = state.user("admin")
        state.enter(state.admin)
        urllib3.request("POST", f"{state.url}/moto-api/reset-auth", body="0")
        yield state
    finally:
        server.shutdown()
        server.server_close()
