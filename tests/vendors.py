"""Vendors' APIs on this machine: each refuses what its own description refuses.

What a description lays down is read from where it lies (`SPECS`, or a package); what it
leaves open, or where it is not to be had, is checked by a small oracle. Each vendor
counts whom it would have written to.
"""

import base64
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SPECS = Path(os.environ.get("REKINDLE_TEST_SPECS", "descriptions"))
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests only, 32 b").decode()
ACCOUNT = "AC0123456789abcdef0123456789abcdef"
Answer = tuple[int, Mapping[str, str], Any]
TAKEN_THEN_FAILED: Answer = (500, {}, {"message": "person@mail.example was quoted"})


class Call:
    """One call, as a vendor reads it."""

    def __init__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        parts = urlsplit(target)
        self.method, self.path = method, parts.path
        self.query = {name: found[-1] for name, found in parse_qs(parts.query).items()}
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        read = parse_qs(self.body.decode(), keep_blank_values=True)
        return {name: found[-1] for name, found in read.items()}


class RefusedError(Exception):
    """A vendor does not take the call; with its status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def referred(part: Any, spec: Any, found: set[str]) -> None:
    """Everything that a part of a description refers to."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, dict | list):
            referred(value, spec, found)
    if isinstance(part, dict) and isinstance(part.get("$ref"), str):
        name = part["$ref"]
        if name not in found:
            found.add(name)
            target = spec
            for step in name.removeprefix("#/").split("/"):
                target = target[step]
            referred(target, spec, found)


@cache
def described(name: str, path: str) -> OpenAPI | None:
    """One path of a published description; nothing where the file is not here."""
    file = SPECS / name
    if not file.exists():
        return None
    spec = json.loads(file.read_text())
    kept = {k: v for k, v in spec["paths"][path].items() if k != "servers"}
    found: set[str] = set()
    referred(kept, spec, found)
    components: dict[str, Any] = {
        "securitySchemes": spec["components"].get("securitySchemes", {})
    }
    for reference in found:
        _, _, kind, part = reference.split("/", 3)
        components.setdefault(kind, {})[part] = spec["components"][kind][part]
    return OpenAPI.from_dict(
        {
            "openapi": spec["openapi"],
            "info": spec["info"],
            "servers": [{"url": "http://vendor.example"}],
            "paths": {path: kept},
            "components": components,
        }
    )


@cache
def discovered(api: str, request: str) -> OpenAPI | None:
    """A request of a Google API, its discovery document read as JSON schema."""
    package = find_spec("googleapiclient")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "discovery_cache" / "documents"
    schemas = json.loads((folder / f"{api}.json").read_text())["schemas"]

    def translated(part: Any) -> Any:
        if isinstance(part, list):
            return [translated(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return {"$ref": f"#/components/schemas/{part['$ref']}"}
        kept = ("type", "items", "enum", "additionalProperties")
        read = {name: translated(part[name]) for name in kept if name in part}
        if read.get("type") == "any":
            read.pop("type")
        if "properties" in part:
            read["properties"] = {
                name: translated(value) for name, value in part["properties"].items()
            }
            # a Google API refuses a field that it does not know
            read["additionalProperties"] = False
        return read

    content = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{request}"}}
    }
    return OpenAPI.from_dict(
        {
            "openapi": "3.1.0",
            "info": {"title": api, "version": "1"},
            "servers": [{"url": "http://vendor.example"}],
            "paths": {
                "/call": {
                    "post": {
                        "requestBody": {"required": True, "content": content},
                        "responses": {"200": {"description": "taken"}},
                    }
                }
            },
            "components": {
                "schemas": {name: translated(part) for name, part in schemas.items()}
            },
        }
    )


def check(description: OpenAPI | None, call: Call, path: str | None = None) -> None:
    """Hold a call to a description, where there is one."""
    if description is None:
        return
    request = MockRequest(
        "http://vendor.example",
        call.method.lower(),
        path or call.path,
        args=call.query,
        headers=dict(call.headers),
        data=call.body,
        content_type=call.headers.get("content-type", ""),
    )
    try:
        description.validate_request(request)
    except OpenAPIError as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from None


def need(part: Any, *path: str) -> Any:
    """A value that must be there and must not be empty."""
    for step in path:
        if not isinstance(part, dict) or part.get(step) in (None, "", [], {}):
            raise RefusedError(f"{'.'.join(path)} is missing")
        part = part[step]
    return part


class Vendor:
    """What all vendors do: check a call, count it, answer; `fault` may come between."""

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self.faults: Callable[[Call], Answer | str | None] = lambda call: None
        self.lock = threading.Lock()

    def is_described(self) -> bool:
        """Whether its published description is here."""
        return True

    def take(self, call: Call) -> Answer:
        """Check a call and carry it out."""
        raise NotImplementedError

    def answer(self, call: Call) -> Answer:
        with self.lock:
            self.calls.append(call)
            fault = self.faults(call)
            if isinstance(fault, tuple) and fault is not TAKEN_THEN_FAILED:
                return fault
            try:
                answer = self.take(call)
            except RefusedError as error:
                self.refused.append(str(error))
                return error.status, {}, {"message": "refused"}
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                self.refused.append(repr(error))
                return 400, {}, {"message": "refused"}
            return fault if isinstance(fault, tuple) else answer


@contextmanager
def serving(vendor: Vendor) -> Iterator[str]:
    """A vendor on a port of this machine; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # head and body in one packet: else each answer waits for a late ACK
        wbufsize = 1 << 16

        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            call = Call(
                self.command, self.path, dict(self.headers), self.rfile.read(length)
            )
            status, headers, body = vendor.answer(call)
            if status == 0:
                # it took the call, and hangs up
                self.close_connection = True
                return
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: Any) -> None:
            """Callers are killed in the midst of a call: that is no error here."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Webhooks(Vendor):
    """A receiver that checks signatures and takes each id once."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, bytes] = {}

    def take(self, call: Call) -> Answer:
        try:
            body = Webhook(SECRET).verify(call.body, call.headers)
        except WebhookVerificationError as error:
            raise RefusedError(str(error), 401) from None
        for field in ("type", "timestamp", "data"):
            need(body, field)
        for field in ("send_id", "channel", "address", "content_id", "message"):
            need(body, "data", field)
        send_id = call.headers["webhook-id"]
        if send_id not in self.bodies:
            self.bodies[send_id] = call.body
            self.written[send_id] += 1
        elif self.bodies[send_id] != call.body:
            raise RefusedError("another body under the same id", 409)
        return 200, {}, {}


class Twilio(Vendor):
    """Message resources: created each time, and listed by number."""

    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.clock = clock or (lambda: datetime(2026, 6, 1, 9))
        self.page_size = 100

    @property
    def description(self) -> OpenAPI | None:
        return described(
            "twilio_api_v2010.json",
            "/2010-04-01/Accounts/{AccountSid}/Messages.json",
        )

    def is_described(self) -> bool:
        return self.description is not None

    def take(self, call: Call) -> Answer:
        login = base64.b64encode(f"{ACCOUNT}:twilio-secret".encode()).decode()
        if call.headers.get("authorization") != f"Basic {login}":
            raise RefusedError("login", 401)
        check(self.description, call)
        if call.method == "GET":
            return self.listed(call)
        form = call.form
        # what its description leaves open
        if not form.get("Body") or not (
            form.get("From") or form.get("MessagingServiceSid")
        ):
            raise RefusedError("Body and a sender are needed")
        if not form.get("To", "").startswith("+"):
            return 400, {}, {"code": 21211, "message": f"{form.get('To')} is invalid"}
        message = {
            "sid": f"SM{len(self.messages):032d}",
            "to": form["To"],
            "body": form["Body"],
            "date_created": format_datetime(self.clock().replace(tzinfo=UTC)),
            "date_sent": None,
        }
        self.messages.append(message)
        self.written[form["To"]] += 1
        return 201, {}, message

    def listed(self, call: Call) -> Answer:
        found = [
            m for m in reversed(self.messages) if m["to"] == need(call.query, "To")
        ]
        page = int(call.query.get("Page", 0))
        size = min(int(call.query.get("PageSize", 50)), self.page_size)
        rest = found[page * size :]
        following = urlencode({**call.query, "Page": page + 1})
        return (
            200,
            {},
            {
                "messages": rest[:size],
                "next_page_uri": f"{self.path}?{following}" if rest[size:] else None,
            },
        )


class SendGrid(Vendor):
    """Mail that is sent each time it is asked for."""

    @property
    def description(self) -> OpenAPI | None:
        return described("tsg_mail_v3.json", "/v3/mail/send")

    def is_described(self) -> bool:
        return self.description is not None

    def take(self, call: Call) -> Answer:
        if call.headers.get("authorization") != "Bearer SG.key":
            raise RefusedError("login", 401)
        check(self.description, call)
        body = call.json
        for field in ("personalizations", "from", "subject", "content"):
            need(body, field)
        (envelope,) = body["personalizations"]
        for mailbox in (need(body, "from"), *need(envelope, "to")):
            if "@" not in need(mailbox, "email"):
                return 400, {}, {"errors": [{"field": "personalizations.0.to.0.email"}]}
        for part in body["content"]:
            need(part, "type"), need(part, "value")
        self.written[need(envelope, "custom_args", "send_id")] += 1
        return 202, {"x-message-id": "a-message"}, None


class Klaviyo(Vendor):
    """Events, of which one of the same profile, metric and id is recorded once."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[tuple[str, ...]] = set()

    @property
    def description(self) -> OpenAPI | None:
        return described("klaviyo.json", "/api/events")

    def is_described(self) -> bool:
        return self.description is not None

    def take(self, call: Call) -> Answer:
        if call.headers.get("authorization") != "Klaviyo-API-Key pk_key":
            raise RefusedError("login", 401)
        # its description takes a call without a revision: it has a default
        if call.headers.get("revision") != "2026-10-15":
            raise RefusedError("revision", 410)
        check(self.description, call)
        attributes = need(call.json, "data", "attributes")
        need(attributes, "properties")
        metric = need(attributes, "metric", "data", "attributes", "name")
        profile = need(attributes, "profile", "data", "attributes")
        if attributes.get("backfill"):
            raise RefusedError("a backfilled event starts no flow")
        unique_id = need(attributes, "unique_id")
        event = (metric, json.dumps(profile, sort_keys=True), unique_id)
        if event not in self.known:
            self.known.add(event)
            self.written[unique_id] += 1
        return 202, {}, None


class Fcm(Vendor):
    """Push, sent each time it is asked for."""

    @property
    def description(self) -> OpenAPI | None:
        return discovered("fcm.v1", "SendMessageRequest")

    def is_described(self) -> bool:
        return self.description is not None

    def take(self, call: Call) -> Answer:
        if call.path == "/token":
            if need(call.form, "assertion").count(".") != 2:
                raise RefusedError("no signed assertion")
            return 200, {}, {"access_token": "a-token", "expires_in": 3600}
        if call.headers.get("authorization") != "Bearer a-token":
            raise RefusedError("login", 401)
        check(self.description, call, "/call")
        message = need(call.json, "message")
        for field in ("title", "body"):
            need(message, "notification", field)
        if need(message, "token") == "gone":
            error = {"status": "NOT_FOUND", "details": [{"errorCode": "UNREGISTERED"}]}
            return 404, {}, {"error": error}
        self.written[need(message, "data", "send_id")] += 1
        return 200, {}, {"name": "projects/my-shop-1234/messages/1"}


class Braze(Vendor):
    """Events, recorded each time; transactional emails, sent once per id."""

    def take(self, call: Call) -> Answer:
        if call.headers.get("authorization") != "Bearer braze-key":
            raise RefusedError("login", 401)
        body = call.json
        if call.path == "/users/track":
            (event,) = need(body, "events")
            for field in ("email", "name", "time", "properties"):
                need(event, field)
            self.written[event["properties"]["send_id"]] += 1
            return 201, {}, {"message": "success", "events_processed": 1}
        if not call.path.startswith("/transactional/v1/campaigns/"):
            raise RefusedError("path", 404)
        need(body, "trigger_properties")
        for field in ("alias_name", "alias_label"):
            need(body, "recipient", "user_alias", field)
        self.written[need(body, "external_send_id")] = 1
        return 201, {}, {"dispatch_id": "a-dispatch", "status": "queued"}


class CustomerIo(Vendor):
    """Events, recorded each time."""

    def take(self, call: Call) -> Answer:
        login = base64.b64encode(b"site-secret:track-secret").decode()
        if call.headers.get("authorization") != f"Basic {login}":
            raise RefusedError("login", 401)
        if "%40" not in call.path:
            raise RefusedError("nobody is named", 404)
        for field in ("name", "timestamp"):
            need(call.json, field)
        for field in ("send_id", "channel", "content_id", "subject", "text", "html"):
            need(call.json, "data", field)
        self.written[call.json["data"]["send_id"]] += 1
        return 200, {}, {}


class OneSignal(Vendor):
    """Messages, of which one of the same key is sent once."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, str] = {}

    def take(self, call: Call) -> Answer:
        if call.headers.get("authorization") != "Key onesignal-key":
            raise RefusedError("login", 401)
        body = call.json
        if call.path != "/notifications":
            raise RefusedError("path", 404)
        need(body, "app_id")
        key = str(UUID(need(body, "idempotency_key")))
        (subscription,) = need(body, "include_subscription_ids")
        for field in ("headings", "contents"):
            need(body, field, "en")
        need(body, "url")
        send_id = need(body, "data", "send_id")
        if subscription == "gone":
            return 200, {}, {"id": "", "errors": ["not subscribed"]}
        if key not in self.known:
            self.known[key] = send_id
            self.written[send_id] += 1
        return 200, {}, {"id": f"message {key}"}
