"""What every request passes before the application: its host, its token, its size, its time; and errors told safely."""

import asyncio
import hmac
import json
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vkd_pyro.serving.http.batching import Batcher, Busy
from vkd_pyro.serving.http.limits import Limits
from vkd_pyro.serving.http.monitoring import Monitoring

CLOSED = ("/v1/", "/metrics", "/openapi.json")
"""Beginnings of paths that need the token; not health, nor the page's own files, which hold nothing."""
PATHS = (
    "/v1/predictions",
    "/v1/heatmaps",
    "/v1/previews",
    "/v1/model",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/",
)
"""Paths that are counted by name: others may hold anything."""
RETRY_SECONDS = 2

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: that a request must bear; None where none is needed.
        hosts: names that a request may be addressed to, so that no page of another site, whose name was made to point
            here, can ask; None for any.
    """

    token: str | None = None
    hosts: frozenset[str] | None = None


class Refused(Exception):
    """A request that goes no further: status, text, headers."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


def busy() -> Refused:
    """As many requests as there may be are here already."""
    return Refused(503, "busy; come again soon", **{"retry-after": str(RETRY_SECONDS)})


class Guard:
    """ASGI middleware, the outermost: see above."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        limits: Limits,
        batcher: Callable[[], Batcher],
        monitoring: Monitoring,
    ) -> None:
        self.app, self.access, self.limits = app, access, limits
        self.batcher, self.monitoring = batcher, monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, answer = time.perf_counter(), _Answer(send)
        try:
            await self._passed(scope, receive, answer)
        except Refused as refused:
            await answer.refuse(refused)
        except Exception as error:  # of a bug: told to the log without its words, which may hold a patient's
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s at %s:%s", type(error).__name__, Path(place.filename).name, place.lineno)
            await answer.refuse(Refused(500, "an error of the service; its log has the place"))
        path = scope["path"] if scope["path"] in PATHS else "other"
        self.monitoring.requests.labels(path, str(answer.status)).inc()
        self.monitoring.seconds.labels(path).observe(time.perf_counter() - start)

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_origin(headers)
        self._check_token(scope["path"], headers)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self.limits.max_bytes:
            raise Refused(413, self._too_large)
        bounded = self._bounded(receive)
        if scope["method"] != "POST":
            await self.app(scope, bounded, send)
            return
        try:
            place = self.batcher().place()
            with place:
                self.monitoring.inside.set(self.batcher().inside)
                await self.app(scope, bounded, send)
        except Busy:
            raise busy() from None
        finally:
            self.monitoring.inside.set(self.batcher().inside)

    def _check_origin(self, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if self.access.hosts is not None and _hostname(f"//{host}") not in self.access.hosts:
            raise Refused(403, "not the name of this service; ask it by the host that it listens on")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host:
            raise Refused(403, "a page of another site may not ask this service")

    def _check_token(self, path: str, headers: dict[str, str]) -> None:
        if self.access.token is None or not path.startswith(CLOSED):
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not _same(given.strip(), self.access.token):
            raise Refused(401, "a token is needed: Authorization: Bearer TOKEN", **{"www-authenticate": "Bearer"})

    def _bounded(self, receive: Receive) -> Receive:
        """The body as it comes, up to the limits of bytes and time."""
        deadline, size, whole = time.monotonic() + self.limits.upload_seconds, 0, False

        async def next_part() -> Message:
            nonlocal size, whole
            if whole:  # what comes now is only that the client has gone
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, "the request took too long to arrive") from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self.limits.max_bytes:
                raise HTTPException(413, self._too_large)
            return message

        return next_part

    @property
    def _too_large(self) -> str:
        return f"more than the limit of {self.limits.max_bytes:,} bytes a request; send fewer, or smaller, images"


class _Answer:
    """Sends an answer with the headers of every answer, and knows its status."""

    def __init__(self, send: Send) -> None:
        self.send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name.decode("latin-1").lower() for name, _ in message.get("headers", ())}
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name not in given]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self.send(message)

    async def refuse(self, refused: Refused) -> None:
        """An error as JSON, unless an answer has begun."""
        if self.status:
            return
        body = json.dumps({"error": refused.text}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": refused.status, "headers": pairs})
        await self({"type": "http.response.body", "body": body})


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _netloc(origin: str) -> str | None:
    """Host and port of an origin; None where it is none, as of a page that is a file."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _same(one: str, other: str) -> bool:
    """In the same time whatever they are."""
    return hmac.compare_digest(sha256(one.encode()).digest(), sha256(other.encode()).digest())
