"""The service itself: what may be called, by whom, and what it answers.

A request is answered with 2xx when what it said is on disk, and not before. One that
nobody signed or that holds no key is refused, and so is one that is too large or one
too many; a wrong signature and a missing one are refused alike. No cookie is read or
set, and nothing of a request is logged.
"""

import asyncio
import base64
import hmac
import logging
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from activations.links import PREFERENCES, UNSUBSCRIBE, BadTokenError, Recipient
from orchestration.links import links_of
from orchestration.settings import Settings, precise_clock, split_keys
from orchestration.sources.inbound.collect import CALLS, messages_in
from orchestration.sources.inbound.journal import Journal, JournalError, Line
from orchestration.sources.inbound.limits import Buckets
from orchestration.sources.inbound.lines import BadRequestError, iso, read_json
from orchestration.sources.inbound.pages import Pages, chosen, opt_out
from orchestration.sources.inbound.replies import ReplyWords
from orchestration.sources.inbound.webhooks import BadSignatureError, Call
from orchestration.sources.inbound.webhooks.braze import Braze
from orchestration.sources.inbound.webhooks.klaviyo import Klaviyo
from orchestration.sources.inbound.webhooks.sendgrid import SendGrid
from orchestration.sources.inbound.webhooks.standard import Standard
from orchestration.sources.inbound.webhooks.twilio import Twilio

LARGEST_BODY = 4 << 20
LONGEST_READ_SECONDS = 20
MAX_CONNECTIONS = 500
GRACE_SECONDS = 10
GZIP = b"\x1f\x8b"
EMPTY_TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response/>'
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    # the address of the page is the permission to use it
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[Request], Awaitable[Response]]
Reader = Callable[[Call], list[Line]]
log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request that is refused: with which status, and why in a few words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Inbound:
    """The handlers of one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._links = links_of(settings)
        self._pages = Pages(settings, self._links)
        self._journal = Journal(settings.landing)
        self._buckets = Buckets(settings.inbound_rate)
        keys = settings.write_keys
        self._write_keys = [key.encode() for key in split_keys(keys)] if keys else []

    def app(self) -> Starlette:
        """What a server runs: routes of all that this home has keys for."""
        routes: list[BaseRoute] = [
            Route("/health", self.health),
            *(
                Route(f"/{page}/{{token}}", self._guarded(handler), methods=[method])
                for page, method, handler in (
                    (UNSUBSCRIBE, "GET", self.show_unsubscribe),
                    (UNSUBSCRIBE, "POST", self.unsubscribe),
                    (PREFERENCES, "GET", self.show_preferences),
                    (PREFERENCES, "POST", self.save_preferences),
                )
            ),
            *(
                Route(
                    f"/webhooks/{name}",
                    self._guarded(self.webhook(read, answer)),
                    methods=["POST"],
                )
                for name, read, answer in readers(self._settings)
            ),
        ]
        if self._write_keys:
            # browsers ask first whether they may send; the key lets in, not the site
            anywhere = Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["POST"],
                allow_headers=["*"],
            )
            call = Route("/{call}", self._guarded(self.collect), methods=["POST"])
            routes.append(Mount("/v1", routes=[call], middleware=[anywhere]))
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await self._journal.close()

    async def health(self, request: Request) -> Response:
        """200 while the disk takes what is said; where it did not, it is tried."""
        with suppress(JournalError):
            if self._journal.is_failing:
                await self._journal.write([])
        status = 503 if self._journal.is_failing else 200
        return JSONResponse({"ok": status == 200}, status)

    async def show_unsubscribe(self, request: Request) -> Response:
        """A page with a button; nothing has changed."""
        self._admit(request)
        return self._page(request, "unsubscribe")

    async def unsubscribe(self, request: Request) -> Response:
        """One click, from a mail program or from the page (RFC 8058)."""
        recipient = self._recipient(request)
        await self._keep([opt_out(recipient)])
        return self._page(request, "unsubscribed")

    async def show_preferences(self, request: Request) -> Response:
        """The page of channels and topics."""
        self._admit(request)
        return await asyncio.to_thread(self._page, request, "preferences")

    async def save_preferences(self, request: Request) -> Response:
        """What somebody chose on it."""
        recipient = self._recipient(request)
        body = await read_body(request)
        choices = await asyncio.to_thread(self._pages.choices, recipient)
        await self._keep(chosen(recipient, choices, body))
        return self._page(request, "saved")

    def webhook(self, read: Reader, answer: Callable[[], Response]) -> Handler:
        """The handler of one tool's webhook."""

        async def take(request: Request) -> Response:
            call = Call(
                self._public_url(request), request.headers, await read_body(request)
            )
            try:
                lines = read(call)
            except BadSignatureError:
                self._admit(request)
                raise RefusedError(401, "the signature is not good") from None
            await self._keep(lines)
            return answer()

        return take

    async def collect(self, request: Request) -> Response:
        """Events of an SDK, let in by a write key."""
        self._admit(request)
        call = CALLS.get(request.path_params["call"])
        if call is None:
            raise RefusedError(404, f"calls are {', '.join(sorted(CALLS))}")
        stated = basic_user(request.headers.get("authorization", ""))
        if stated is not None:
            self._assert_key(stated)
        body = await read_body(request)
        content = read_json(unzip(body) if body.startswith(GZIP) else body)
        if stated is None:
            key = content.get("writeKey") if isinstance(content, dict) else None
            self._assert_key(str(key).encode(errors="replace"))
        await self._keep(messages_in(call, content))
        return JSONResponse({"success": True})

    async def _keep(self, lines: list[Line]) -> None:
        """Return when the lines are on disk; when they came is for us to say."""
        received_at = iso(precise_clock())
        if not lines:
            return
        try:
            await self._journal.write(
                [{**line, "receivedAt": received_at} for line in lines]
            )
        except RecursionError:
            raise BadRequestError("the body is nested too deeply") from None

    def _guarded(self, handler: Handler) -> Handler:
        """A handler of which every refusal is an answer."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except BadTokenError:
                return HTMLResponse(self._pages.refusal(), 404, PAGE_HEADERS)
            except BadRequestError as error:
                return JSONResponse({"error": str(error)}, 400)
            except RefusedError as error:
                headers = {"Retry-After": "1"} if error.status == 429 else None
                return JSONResponse({"error": str(error)}, error.status, headers)
            except JournalError as error:
                log.error("nothing can be written: %s", error)
                busy = {"error": "try again later"}
                return JSONResponse(busy, 503, {"Retry-After": "5"})
            except ClientDisconnect:
                return Response(status_code=400)

        return answer

    def _recipient(self, request: Request) -> Recipient:
        """Whom the link of a request is about.

        Raises:
            BadTokenError: if nobody here signed it; whoever guesses may do so slowly.
        """
        try:
            return self._links.read(request.path_params["token"])
        except BadTokenError:
            self._admit(request)
            raise

    def _page(self, request: Request, name: str) -> Response:
        recipient = self._recipient(request)
        page = self._pages.page(name, request.path_params["token"], recipient)
        return HTMLResponse(page, headers=PAGE_HEADERS)

    def _public_url(self, request: Request) -> str:
        """The address that a tool called, which its signature is over."""
        path = request.scope.get("raw_path", b"").decode("latin-1")
        query = request.scope["query_string"].decode("latin-1")
        return f"{self._links.address}{path}{f'?{query}' if query else ''}"

    def _admit(self, request: Request) -> None:
        """Let whoever calls in once more.

        Raises:
            RefusedError: if they call too often.
        """
        host = request.client.host if request.client else "local"
        if not self._buckets.take(host):
            raise RefusedError(429, "too many requests")

    def _assert_key(self, stated: bytes) -> None:
        """Let in whoever holds a write key.

        Raises:
            RefusedError: if it is none.
        """
        # each is compared, so that time says nothing
        if not any([hmac.compare_digest(stated, key) for key in self._write_keys]):
            raise RefusedError(401, "the write key is not good")


def readers(
    settings: Settings,
) -> list[tuple[str, Reader, Callable[[], Response]]]:
    """The webhooks that this home can verify: their path, reader and answer."""
    found: list[tuple[str, Reader, Callable[[], Response]]] = []

    def accepted() -> Response:
        return Response(status_code=204)

    if settings.sendgrid_webhook_key:
        sendgrid = SendGrid(settings.sendgrid_webhook_key)
        found.append(("sendgrid", sendgrid.lines, accepted))
    if settings.twilio_auth_token:
        words = ReplyWords.read(settings.seed("spellings"))
        twilio = Twilio(settings.twilio_auth_token.get_secret_value(), words)
        found.append(("twilio/status", twilio.status_lines, accepted))
        found.append(("twilio/message", twilio.message_lines, empty_twiml))
    if settings.klaviyo_webhook_secret:
        klaviyo = Klaviyo(settings.klaviyo_webhook_secret.get_secret_value())
        found.append(("klaviyo", klaviyo.lines, accepted))
    if settings.braze_currents_token:
        braze = Braze(settings.braze_currents_token.get_secret_value())
        found.append(("braze", braze.lines, accepted))
    if settings.webhook_secret:
        standard = Standard(settings.webhook_secret.get_secret_value())
        found.append(("standard", standard.lines, accepted))
    return found


def empty_twiml() -> Response:
    """No reply of ours: Twilio itself confirms a STOP."""
    return Response(EMPTY_TWIML, media_type="text/xml")


async def read_body(request: Request) -> bytes:
    """The body as it came.

    Raises:
        RefusedError: if it is too large, or comes too slowly.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(LONGEST_READ_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > LARGEST_BODY:
                    raise RefusedError(413, f"a body has {LARGEST_BODY} bytes at most")
    except TimeoutError:
        raise RefusedError(408, "the body did not come") from None
    return bytes(body)


def unzip(body: bytes) -> bytes:
    """What a gzip holds.

    Raises:
        BadRequestError: if it is broken.
        RefusedError: if it holds too much.
    """
    unzipper = zlib.decompressobj(wbits=31)
    try:
        content = unzipper.decompress(body, LARGEST_BODY + 1)
    except zlib.error:
        raise BadRequestError("the gzip is broken") from None
    if len(content) > LARGEST_BODY:
        raise RefusedError(413, f"a body has {LARGEST_BODY} bytes at most, unzipped")
    if not unzipper.eof:
        raise BadRequestError("the gzip is broken")
    return content


def basic_user(header: str) -> bytes | None:
    """The user of Basic authorization, which is where a write key stands."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[0]
    except ValueError:
        return b""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: if the address is none of this machine's, or is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)


def server(settings: Settings, *, proxies: str) -> uvicorn.Server:
    """A server that answers until it is asked to exit, and then whom it began with.

    `proxies` are the addresses whose X-Forwarded-For is believed, comma between.
    """
    config = uvicorn.Config(
        Inbound(settings).app(),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        forwarded_allow_ips=proxies,
    )
    return uvicorn.Server(config)
