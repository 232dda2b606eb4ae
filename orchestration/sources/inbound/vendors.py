"""Webhooks of the tools that deliver: who signed them, and the lines that they are.

A signature is checked over the bytes that came, before any of them is read. Event names
and properties stay the tool's own: the seeds say what they mean. Each event keeps the
tool's id, so that one that comes again is landed once.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from standardwebhooks import Webhook, WebhookVerificationError

from orchestration.settings import precise_clock
from orchestration.sources.envelope import TYPES
from orchestration.sources.inbound.collect import messages_in
from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import BadRequestError, person, track
from orchestration.sources.inbound.replies import ReplyWords

TOLERANCE = timedelta(minutes=5)
LATE_TOLERANCE = timedelta(hours=25)
"""SendGrid tries for a day, and does not say whether it signs each try anew."""
NOT_YET = ("accepted", "scheduled", "queued", "sending", "sent")
"""States of a text message that say less than the ledger does."""
OF_THE_NUMBER = ("21211", "21610", "21614", "30004", "30005", "30006")
"""Twilio's errors that stay: the number is none, takes no texts or wants none.

https://www.twilio.com/docs/api/errors
"""


class BadSignatureError(Exception):
    """Nobody whom we know signed this, or not lately."""


@dataclass(frozen=True)
class Call:
    """A request as it came: the address that the tool calls, its headers, its bytes."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            BadRequestError: if it is none.
        """
        return read_json(self.body)

    def header(self, name: str) -> str:
        """A header that a signature needs.

        Raises:
            BadSignatureError: if it is not there.
        """
        value = self.headers.get(name)
        if not value:
            raise BadSignatureError(f"{name} is missing")
        return value


class SendGrid:
    """SendGrid's event webhook, signed by ECDSA over timestamp and body.

    https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
    """

    def __init__(self, key: str) -> None:
        # of which kind it is, the settings have seen
        self._key = cast(
            EllipticCurvePublicKey, load_der_public_key(base64.b64decode(key))
        )

    def lines(self, call: Call) -> list[Line]:
        """One line per event; `send_id` is the custom argument of that name."""
        signature = call.header("x-twilio-email-event-webhook-signature")
        stated = call.header("x-twilio-email-event-webhook-timestamp")
        try:
            self._key.verify(
                base64.b64decode(signature, validate=True),
                stated.encode() + call.body,
                ECDSA(SHA256()),
            )
        except (InvalidSignature, ValueError):
            raise BadSignatureError("signature") from None
        assert_recent(stated, LATE_TOLERANCE)
        return [
            sendgrid_line(event)
            for event in objects_in(call.json())
            if event.get("event") != "processed"
        ]


def sendgrid_line(event: Mapping[str, Any]) -> Line:
    """A SendGrid event under its own name: `bounce` is an Email Bounce."""
    name = str(event.get("event"))
    if (name, event.get("type")) == ("bounce", "blocked"):
        name = "blocked"
    taken = ("event", "timestamp", "ip", "url", "useragent")
    return track(
        f"Email {name.replace('_', ' ').title()}",
        f"sendgrid-{event.get('sg_event_id') or digest(event)}",
        person(event.get("email")),
        {
            **{key: value for key, value in event.items() if key not in taken},
            "channel": "email",
            "link_url": event.get("url"),
            "user_agent": event.get("useragent"),
        },
        at=event.get("timestamp"),
    )


class Twilio:
    """Twilio's webhooks of a text message, signed by HMAC-SHA1 over address and form.

    https://www.twilio.com/docs/usage/security#validating-requests
    """

    def __init__(self, token: str, words: ReplyWords) -> None:
        self._token = token.encode()
        self._words = words

    def form(self, call: Call) -> dict[str, str]:
        """The fields of a form that Twilio signed."""
        signature = call.header("x-twilio-signature")
        try:
            pairs = parse_qsl(
                call.body.decode(), keep_blank_values=True, errors="strict"
            )
        except ValueError:
            raise BadSignatureError("the form is no UTF-8") from None
        signed = "".join(f"{name}{value}" for name, value in sorted(set(pairs)))
        # some of its parts sign the address with the port that https has anyway
        site = urlsplit(call.url)
        with_port = site._replace(netloc=f"{site.netloc}:443").geturl()
        if not any(
            hmac.compare_digest(
                base64.b64encode(
                    hmac.digest(self._token, (url + signed).encode(), hashlib.sha1)
                ),
                signature.encode(),
            )
            for url in (call.url, with_port)
        ):
            raise BadSignatureError("signature")
        return dict(pairs)

    def status_lines(self, call: Call) -> list[Line]:
        """How far a message came; `send_id` is that of the address called."""
        form = self.form(call)
        status = form.get("MessageStatus", form.get("SmsStatus", ""))
        if status in NOT_YET or "MessageSid" not in form:
            return []
        channel, phone = channel_and_phone(form.get("To", ""))
        code = form.get("ErrorCode")
        has_failed = status in ("failed", "undelivered")
        return [
            track(
                f"SMS {status.title()}",
                f"twilio-{form['MessageSid']}-{status}",
                person(phone),
                {
                    "channel": channel,
                    "phone": phone,
                    "send_id": dict(parse_qsl(urlsplit(call.url).query)).get("send_id"),
                    "error_code": code,
                    "bounce_type": ("hard" if code in OF_THE_NUMBER else "soft")
                    if has_failed
                    else None,
                },
            )
        ]

    def message_lines(self, call: Call) -> list[Line]:
        """What a person wrote to us, and whether they want no more."""
        form = self.form(call)
        channel, phone = channel_and_phone(form.get("From", ""))
        said = form.get("Body", "")
        answer = self._words.answer(said)
        # Twilio's own reading, where the brand has given it words of its own
        kind = form.get("OptOutType", "")
        if kind == "STOP":
            answer = "stop"
        elif kind == "START" and answer == "other":
            answer = "start"
        event, consent = {
            "stop": ("SMS Stopped", {}),
            "start": ("Channel Consent Updated", GRANTED),
            "other": ("Customer Message Received", {}),
        }[answer]
        return [
            track(
                event,
                f"twilio-{form.get('MessageSid') or digest(form)}",
                person(phone),
                {"channel": channel, "phone": phone, "body": said, **consent},
            )
        ]


GRANTED = {
    "purpose": "marketing",
    "status": "granted",
    "lawful_basis": "consent",
    "policy_version": "keyword",
}


def channel_and_phone(address: str) -> tuple[str, str]:
    """`whatsapp:+4790000001` is a channel and a number; a number alone is SMS."""
    channel, _, phone = address.rpartition(":")
    return channel or "sms", phone


class Klaviyo:
    """Klaviyo's system webhooks, signed by HMAC-SHA256 over body and timestamp.

    https://developers.klaviyo.com/en/docs/working_with_system_webhooks
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def lines(self, call: Call) -> list[Line]:
        """One line per event, by the name of its metric, else of its topic."""
        signature = call.header("klaviyo-signature")
        stated = call.header("klaviyo-timestamp")
        signed = hmac.new(self._secret, call.body + stated.encode(), hashlib.sha256)
        if not hmac.compare_digest(signed.hexdigest().encode(), signature.encode()):
            raise BadSignatureError("signature")
        assert_recent(stated, TOLERANCE)
        body = call.json()
        if not isinstance(body, dict):
            raise BadRequestError("the body is no JSON object")
        meta = mapping(body.get("meta"))
        if meta.get("klaviyo_webhook_id") != call.headers.get("klaviyo-webhook-id"):
            raise BadSignatureError("another webhook's body")
        return [klaviyo_line(event) for event in objects_in(body.get("data"))]


def klaviyo_line(event: Mapping[str, Any]) -> Line:
    """A Klaviyo event, of the profile that comes with it."""
    payload = mapping(event.get("payload"))
    data = mapping(payload.get("data")) or payload
    attributes = mapping(data.get("attributes"))
    included = {
        str(one.get("type")): mapping(one.get("attributes"))
        for one in objects_in(payload.get("included") or [])
    }
    profile = included.get("profile", {})
    related = mapping(mapping(data.get("relationships")).get("profile"))
    properties = mapping(attributes.get("event_properties"))
    email = profile.get("email") or properties.get("Recipient Email Address")
    phone = profile.get("phone_number")
    topic = str(event.get("topic", "")).rpartition(".")[2].replace("_", " ").title()
    return track(
        str(included.get("metric", {}).get("name") or topic),
        f"klaviyo-{event.get('external_id') or data.get('id') or digest(event)}",
        person(
            *(email, phone, mapping(related.get("data")).get("id")),
            user_id=profile.get("external_id"),
        ),
        {**properties, "email": email, "phone": phone},
        at=attributes.get("datetime") or attributes.get("timestamp"),
    )


class Braze:
    """Braze Currents by its custom HTTP connector, let in by a bearer token.

    https://www.braze.com/docs/user_guide/data/distribution/braze_currents
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def lines(self, call: Call) -> list[Line]:
        """One line per event, by Braze's name for it."""
        stated = call.header("authorization")
        if not hmac.compare_digest(stated.encode(), self._expected):
            raise BadSignatureError("token")
        body = call.json()
        if not isinstance(body, dict):
            raise BadRequestError("the body is no JSON object")
        return [braze_line(event) for event in objects_in(body.get("events"))]


def braze_line(event: Mapping[str, Any]) -> Line:
    """A Currents event of the user that it names."""
    user = mapping(event.get("user"))
    properties = mapping(event.get("properties"))
    email = properties.get("email_address")
    phone = properties.get("to_phone_number") or properties.get("user_phone_number")
    return track(
        str(event.get("event_type", "")),
        f"braze-{event.get('id') or digest(event)}",
        person(email, phone, user.get("user_id"), user_id=user.get("external_user_id")),
        {**properties, "phone": phone},
        at=event.get("time"),
    )


class Standard:
    """Webhooks of any tool by https://www.standardwebhooks.com, and what they hold.

    A body that is a message of the Segment spec, or a batch of them, is taken as it
    is; any other is one event: its `type`, `timestamp` and `data`.
    """

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(secret)

    def lines(self, call: Call) -> list[Line]:
        """The lines of one webhook."""
        try:
            self._webhook.verify(call.body, dict(call.headers), json_parse=False)
        # what it raises where a signature is no base64, or a body no UTF-8
        except (WebhookVerificationError, ValueError):
            raise BadSignatureError("signature") from None
        body = call.json()
        if not isinstance(body, dict):
            raise BadRequestError("the body is no JSON object")
        webhook_id = call.header("webhook-id")
        if "batch" in body:
            return [
                {**message, "messageId": own_id(each) or f"{webhook_id}-{index}"}
                for index, (each, message) in enumerate(
                    zip(body["batch"], messages_in("batch", body), strict=True)
                )
            ]
        if body.get("type") in TYPES:
            (message,) = messages_in(str(body["type"]), body)
            return [{**message, "messageId": own_id(body) or webhook_id}]
        data = mapping(body.get("data"))
        return [
            track(
                str(body.get("type", "")),
                webhook_id,
                person(
                    *(data.get("anonymousId"), data.get("email"), data.get("phone")),
                    user_id=data.get("userId") or data.get("user_id"),
                ),
                data,
                at=body.get("timestamp"),
            )
        ]


def own_id(message: Mapping[str, Any]) -> Any:
    """The id that a message came with."""
    return message.get("messageId") or message.get("message_id")


def assert_recent(stated: str, tolerance: timedelta) -> None:
    """Refuse what was signed too long ago, or is still to come.

    Raises:
        BadSignatureError: if it was, or no time can be read.
    """
    age = precise_clock() - moment_of(stated)
    if not -TOLERANCE <= age <= tolerance:
        raise BadSignatureError("the signature is too old")


def moment_of(stated: str) -> datetime:
    """A moment in seconds since 1970, as ISO 8601 or as HTTP writes dates; naive UTC.

    Raises:
        BadSignatureError: if it is none of them.
    """
    for read in (
        lambda text: datetime.fromtimestamp(float(text), UTC),
        datetime.fromisoformat,
        parsedate_to_datetime,
    ):
        try:
            moment: datetime = read(stated)
            return (
                moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
            )
        except (ValueError, OverflowError, OSError):
            continue
    raise BadSignatureError("the timestamp is none")


def read_json(body: bytes) -> Any:
    """A body as JSON, which has no NaN.

    Raises:
        BadRequestError: if it is none.
    """

    def refuse(word: str) -> None:
        raise BadRequestError(f"the body is no JSON: {word}")

    try:
        return json.loads(body, parse_constant=refuse)
    except BadRequestError:
        raise
    except (ValueError, RecursionError):
        raise BadRequestError("the body is no JSON") from None


def objects_in(value: Any) -> Sequence[Mapping[str, Any]]:
    """A list of JSON objects.

    Raises:
        BadRequestError: if it is none.
    """
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRequestError("expected a list of JSON objects")
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def digest(event: Mapping[str, Any]) -> str:
    """An id for an event that came without: the same for the same event."""
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()[:32]
