"""What destinations behind an HTTP API share: a call a message, and what became of it.

Whoever was not reached, and whatever was refused, was certainly not taken. A call that
broke on its way, and an error of the server, leave doubt. What a server says is never
kept but for its codes: it quotes people.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from activations.addresses import InvalidAddressError, mail_address
from activations.channels import BLIND, DeliveryClass, DestinationDownError
from activations.channels.mail import cannot_be_built
from activations.ledger import Outcome, Send
from activations.render import Message

# its lines name addresses with people's numbers in them
logging.getLogger("httpx2").setLevel(logging.WARNING)

NOT_REACHED = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
TOO_MANY = 429
# The login, or the way to the API, is wrong: so it is for every message.
WRONG_WAY = frozenset({300, 301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 407, 410})
# What a server says that gave up on a call, whatever it has done with it.
DOUBTFUL = frozenset({408, 425, 499})


@dataclass(frozen=True)
class Limits:
    """What the maker of an API asks of its callers, and where that was read."""

    calls_per_second: float
    source: str
    read_on: str
    calls_at_once: int = 1
    longest_pause_seconds: float = 60.0


class Request(BaseModel):
    """A request as its API describes it; what does not fit is not sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def on_the_wire(self) -> dict[str, Any]:
        """What goes on the wire, without what is not said."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class UnfitError(Exception):
    """A message of which no request can be made; says no value."""


class InDoubtError(Exception):
    """A call of which nobody knows whether it was heard."""


class Api:
    """One HTTP API: called no faster than its maker allows."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        limits: Limits,
        clock: Callable[[], datetime],
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._client = httpx2.Client(
            base_url=url,
            headers=headers,
            auth=login,
            timeout=httpx2.Timeout(30.0, connect=10.0),
        )

    def __repr__(self) -> str:
        return f"Api({self.name})"

    def call(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """What the API answers, whatever it is.

        Raises:
            DestinationDownError: if the call cannot have been heard.
            InDoubtError: if it may have been.
        """
        self._take_turn()
        try:
            response = self._client.request(method, path, **content)
        except NOT_REACHED as error:
            reason = f"{self.name}: {type(error).__name__}"
            raise DestinationDownError(reason) from None
        except httpx2.RequestError as error:
            raise InDoubtError(type(error).__name__) from None
        self._heed(response)
        return response

    def close(self) -> None:
        """Let go of open connections."""
        self._client.close()

    def _take_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._free_at)
            if turn - now > self._limits.longest_pause_seconds:
                raise DestinationDownError(f"{self.name}: rate_limited")
            self._free_at = turn + 1 / self._limits.calls_per_second
        if turn > now:
            self._sleep(turn - now)

    def _heed(self, response: httpx2.Response) -> None:
        """Wait as long as the API asks for before the next call."""
        headers = response.headers
        wait = headers.get("retry-after")
        for prefix in ("x-ratelimit", "ratelimit"):
            if wait is None and headers.get(f"{prefix}-remaining") == "0":
                wait = headers.get(f"{prefix}-reset")
        seconds = self._seconds(wait)
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() + seconds)

    def _seconds(self, written: str | None) -> float:
        """How long from now, of a count of seconds, a Unix time or an HTTP date."""
        if not written:
            return 0.0
        now = self._clock().replace(tzinfo=UTC)
        try:
            seconds = float(written)
        except ValueError:
            try:
                return (parsedate_to_datetime(written) - now).total_seconds()
            except (ValueError, TypeError):
                return 0.0
        # no API asks for years
        return seconds - now.timestamp() if seconds > 1e9 else seconds


class HttpDestination:
    """A destination that takes one message a call."""

    name: str
    delivery_class: DeliveryClass = BLIND
    batch_size = 1

    def __init__(self, api: Api, limits: Limits) -> None:
        self._api = api
        self._calls_at_once = limits.calls_at_once

    def call(self, message: Message) -> httpx2.Response:
        """Make the call that hands over a message.

        Raises:
            UnfitError: if no request can be made of it.
            DestinationDownError: if the call cannot have been heard.
            InDoubtError: if it may have been.
        """
        raise NotImplementedError

    def receipt(self, response: httpx2.Response) -> str | None:
        """How the destination calls what it took."""
        raise NotImplementedError

    def refusal(self, send_id: str, response: httpx2.Response) -> Outcome | None:
        """What an answer means that is a refusal here, or one of a special kind."""
        return None

    def look_up(self, send: Send) -> Literal["sent", "not_sent", "unknown"]:
        """Nothing that could be asked."""
        return "unknown"

    def close(self) -> None:
        """Let go of open connections."""
        self._api.close()

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Hand over each message; once the destination is down, no more."""
        is_down = threading.Event()

        def try_one(message: Message) -> Outcome | DestinationDownError:
            if is_down.is_set():
                return Outcome(message.send_id, "pending", f"{self.name}: is down")
            try:
                return self._send_one(message)
            except DestinationDownError as error:
                is_down.set()
                return error

        with ThreadPoolExecutor(self._calls_at_once) as pool:
            found = list(pool.map(try_one, messages))
        for error in found:
            if isinstance(error, DestinationDownError) and not any(
                isinstance(other, Outcome) and other.state != "pending"
                for other in found
            ):
                raise error
        return [
            Outcome(message.send_id, "pending", str(outcome))
            if isinstance(outcome, DestinationDownError)
            else outcome
            for message, outcome in zip(messages, found, strict=True)
        ]

    def _send_one(self, message: Message) -> Outcome:
        send_id = message.send_id
        try:
            response = self.call(message)
        except UnfitError as error:
            return Outcome(send_id, "dead", str(error))
        except InDoubtError as error:
            return Outcome(send_id, "inflight", f"{self.name}: {error}")
        except DestinationDownError:
            raise
        # one message of which no request can be made keeps back no other
        except Exception as error:
            return cannot_be_built(message, error)
        refused = self.refusal(send_id, response)
        if refused is not None:
            return refused
        if response.is_success:
            return Outcome(send_id, "sent", receipt=self.receipt(response))
        return self._refused(send_id, response)

    def _refused(self, send_id: str, response: httpx2.Response) -> Outcome:
        status = response.status_code
        reason = f"{self.name}_{status}"
        if status == TOO_MANY:
            return Outcome(send_id, "pending", reason)
        if status in WRONG_WAY:
            raise DestinationDownError(reason)
        if status in DOUBTFUL or status >= 500:
            return Outcome(send_id, "inflight", reason)
        return Outcome(send_id, "dead", reason)


def fitting(kind: type[Request], **values: Any) -> dict[str, Any]:
    """The body of a request that its API can take.

    Raises:
        UnfitError: naming the fields that do not fit.
    """
    try:
        return kind.model_validate(values).on_the_wire()
    except ValidationError as error:
        fields = {".".join(map(str, problem["loc"])) for problem in error.errors()}
        raise UnfitError(f"unfit: {', '.join(sorted(fields))}") from None


def mail_address_of(message: Message) -> str:
    """The email address of a message as it goes on the wire.

    Raises:
        UnfitError: if mail cannot be sent to it.
    """
    try:
        return mail_address(message.address)
    except InvalidAddressError:
        raise UnfitError("invalid_address") from None


def said(response: httpx2.Response) -> Mapping[str, Any]:
    """The JSON object of a response; empty where there is none."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
