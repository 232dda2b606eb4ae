"""Destinations: each speaks as its vendor's description says and keeps its promise.

A server on this machine stands for each vendor (`tests/vendors.py`).
"""

import copy
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import polars as pl
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from standardwebhooks.webhooks import Webhook

from activations.channels import Destination, DestinationDownError
from activations.channels.http import Api, Limits
from activations.channels.options import Surroundings
from activations.destinations import (
    KINDS,
    DestinationsError,
    read_destinations,
    require_secrets,
)
from activations.ledger import Ledger, Send
from activations.render import Message
from orchestration.settings import PROJECT, wall_clock
from tests.test_delivery import MONDAY, a_send_list, run
from tests.vendors import (
    ACCOUNT,
    SECRET,
    TAKEN_THEN_FAILED,
    Braze,
    CustomerIo,
    Fcm,
    Klaviyo,
    OneSignal,
    SendGrid,
    Twilio,
    Vendor,
    Webhooks,
    serving,
)

# What may hold whatever a sender likes.
FREE = frozenset({"properties", "message", "headers", "trigger_properties"})
PHONE = "+4915112345678"
LATER = MONDAY + timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def service_account(url: str) -> str:
    """A key of a service account that nobody has, whose tokens are on this machine."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return json.dumps(
        {
            "type": "service_account",
            "client_email": "rekindle@my-shop-1234.iam.example",
            "private_key": pem.decode(),
            "token_uri": f"{url}/token",
        }
    )


class Case:
    """A vendor, the line of `destinations.yml` that leads to it, and a message."""

    def __init__(
        self,
        vendor: type[Vendor],
        channel: str,
        line: dict[str, Any],
        secrets: dict[str, str],
        *,
        address: str = "person1@mail.example",
        optional: frozenset[str] = frozenset(),
    ) -> None:
        self.vendor = vendor
        self.channel = channel
        self.line = line
        self.secrets = secrets
        self.address = address
        # what the vendor would do without, though we always say it
        self.optional = optional

    @property
    def name(self) -> str:
        return str(self.line["destination"])

    def open(self, url: str, folder: Path) -> Destination:
        path = folder / "destinations.yml"
        path.write_text(yaml.safe_dump({self.channel: {**self.line, "url": url}}))
        secrets = dict(self.secrets)
        if "GOOGLE" in secrets:
            secrets["GOOGLE"] = service_account(url)
        around = Surroundings(
            outbox=folder,
            email_from="The Shop <hello@shop.example>",
            smtp=None,
            environment=secrets,
            clock=wall_clock,
        )
        return read_destinations(path)[self.channel].open(around)

    def message(self, number: int = 1) -> Message:
        fields = {
            "email": {
                "subject": "Your cart",
                "text": "It waits.",
                "html": "<p>It waits.</p>",
                "unsubscribe_link": "https://shop.example/unsubscribe?send_id=1",
            },
            "sms": {"body": f"It waits: https://shop.example/?send_id=send{number}"},
        }
        card = {
            "title": "Your cart",
            "body": "It waits.",
            "link": "https://shop.example",
        }
        return Message(
            send_id=f"send{number}",
            channel=self.channel,
            address=self.address,
            content_id="cart_offer",
            as_of=MONDAY,
            fields=fields.get(self.channel, card),
        )


CASES = [
    Case(
        Webhooks,
        "onsite",
        {"destination": "webhook", "secrets": [{"env": "WEBHOOK"}]},
        {"WEBHOOK": SECRET},
    ),
    Case(
        Twilio,
        "sms",
        {
            "destination": "twilio",
            "account_sid": ACCOUNT,
            "auth_token": {"env": "TWILIO"},
            "sender": "+4915100000000",
            "status_callback": "https://x.example/status",
        },
        {"TWILIO": "twilio-secret"},
        address=PHONE,
        optional=frozenset({"StatusCallback"}),
    ),
    Case(
        SendGrid,
        "email",
        {"destination": "sendgrid", "api_key": {"env": "SENDGRID"}},
        {"SENDGRID": "SG.key"},
        optional=frozenset({"name", "headers", "categories"}),
    ),
    Case(
        Klaviyo,
        "email",
        {"destination": "klaviyo", "api_key": {"env": "KLAVIYO"}},
        {"KLAVIYO": "pk_key"},
        optional=frozenset({"time"}),
    ),
    Case(
        Fcm,
        "push",
        {
            "destination": "fcm",
            "project": "my-shop-1234",
            "service_account": {"env": "GOOGLE"},
        },
        {"GOOGLE": ""},
        address="a-device",
    ),
    Case(
        Braze,
        "email",
        {"destination": "braze", "api_key": {"env": "BRAZE"}},
        {"BRAZE": "braze-key"},
    ),
    Case(
        Braze,
        "email",
        {
            "destination": "braze_email",
            "api_key": {"env": "BRAZE"},
            "campaign_id": "0123abcd",
        },
        {"BRAZE": "braze-key"},
    ),
    Case(
        CustomerIo,
        "email",
        {
            "destination": "customerio",
            "site_id": {"env": "SITE"},
            "api_key": {"env": "KEY"},
        },
        {"SITE": "site-secret", "KEY": "track-secret"},
        optional=frozenset({"unsubscribe_link"}),
    ),
    Case(
        OneSignal,
        "push",
        {
            "destination": "onesignal",
            "app_id": "4b7a2f0e-1f2d-4c61-9d2c-6f3c1a2b3c4d",
            "api_key": {"env": "ONESIGNAL"},
        },
        {"ONESIGNAL": "onesignal-key"},
        address="a-subscription",
        optional=frozenset({"name"}),
    ),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Opened:
    """A destination that is open to a vendor on this machine."""

    def __init__(self, case: Case, vendor: Vendor, destination: Destination) -> None:
        self.case = case
        self.vendor = vendor
        self.destination = destination


@pytest.fixture
def opened(case: Case, tmp_path: Path) -> Iterator[Opened]:
    vendor = case.vendor()
    with (
        serving(vendor) as url,
        closing(case.open(url, tmp_path)) as destination,
    ):
        yield Opened(case, vendor, destination)


def without_one(
    part: Any, optional: frozenset[str], path: tuple[int | str, ...] = ()
) -> Iterator[tuple[int | str, ...]]:
    """Where each field stands that must not be away."""
    named = part.items() if isinstance(part, dict) else enumerate(part)
    for step, value in named:
        here = (*path, step)
        if isinstance(step, str) and step not in optional:
            yield here
        if isinstance(value, dict | list) and step not in FREE:
            yield from without_one(value, optional, here)


@EVERY
def test_a_vendor_takes_what_is_sent_and_refuses_it_with_any_field_away(
    opened: Opened,
) -> None:
    vendor = opened.vendor
    if not vendor.is_described():
        pytest.skip("needs REKINDLE_TEST_SPECS, a folder of vendors' descriptions")
    (outcome,) = opened.destination.send([opened.case.message()])
    assert (outcome.state, vendor.refused) == ("sent", [])
    call = vendor.calls[-1]
    is_form = "form" in call.headers["content-type"]
    body = call.form if is_form else call.json
    for path in [(), *without_one(body, opened.case.optional)]:
        changed = copy.deepcopy(body) if path else {}
        holder = changed
        for step in path[:-1]:
            holder = holder[step]
        if path:
            del holder[path[-1]]
        again = copy.copy(call)
        again.body = (urlencode(changed) if is_form else json.dumps(changed)).encode()
        if isinstance(vendor, Webhooks):
            signer = webhook_signer(again)
            again.headers = {**call.headers, "webhook-signature": signer}
        written = vendor.written.copy()
        status, _, _ = vendor.answer(again)
        assert status >= 400, f"{path} is away, and it was taken"
        assert vendor.written == written


def webhook_signer(call: Any) -> str:
    """The signature of a changed body."""
    moment = datetime.fromtimestamp(int(call.headers["webhook-timestamp"]), UTC)
    return Webhook(SECRET).sign(
        call.headers["webhook-id"], moment.replace(tzinfo=None), call.body.decode()
    )


@EVERY
def test_what_a_refusal_and_a_broken_call_mean(opened: Opened) -> None:
    vendor, name = opened.vendor, opened.case.name
    fates = {
        (429, (("retry-after", "0"),)): "pending",
        (500, ()): "inflight",
        (503, ()): "inflight",
        (422, ()): "dead",
        (0, ()): "inflight",
    }
    opened.destination.send([opened.case.message(0)])
    for number, ((status, headers), expected) in enumerate(fates.items(), start=1):
        answer = (status, dict(headers), {"message": opened.case.address})
        vendor.faults = lambda call, answer=answer: answer
        (outcome,) = opened.destination.send([opened.case.message(number)])
        assert outcome.state == expected, status
        assert str(outcome.reason).startswith(name)
        assert opened.case.address not in repr(outcome)
    for status in (401, 404, 301):
        answer = (status, {"location": "https://elsewhere.example"}, {})
        vendor.faults = lambda call, answer=answer: answer
        with pytest.raises(DestinationDownError, match=f"{name}_{status}"):
            opened.destination.send([opened.case.message(9)])


@EVERY
def test_a_vendor_that_cannot_be_reached_has_taken_nothing(
    case: Case, tmp_path: Path
) -> None:
    with serving(case.vendor()) as url:
        destination = case.open(url, tmp_path)
    with (
        closing(destination),
        pytest.raises(DestinationDownError, match=r"Connect|google"),
    ):
        destination.send([case.message()])


@EVERY
def test_what_does_not_fit_is_refused_here_and_told_without_its_value(
    opened: Opened,
) -> None:
    if opened.case.name in ("webhook", "fcm", "onesignal"):
        pytest.skip("it takes any address")
    message = replace(opened.case.message(), address="hello")
    (outcome,) = opened.destination.send([message])
    assert outcome.state == "dead"
    assert "hello" not in str(outcome.reason)
    assert opened.vendor.calls == []


@EVERY
def test_no_secret_and_no_address_is_ever_written_down(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("httpx2").info("is off")
        opened.destination.send([opened.case.message()])
    held = [repr(opened.destination)]
    for part in vars(opened.destination).values():
        held += map(repr, (part, *getattr(part, "__dict__", {}).values()))
    secrets = [*opened.case.secrets.values(), opened.case.address]
    for text in (caplog.text, *held):
        for secret in filter(None, secrets):
            assert secret not in text


@EVERY
def test_what_was_taken_and_answered_with_an_error_goes_out_once_by_its_class(
    opened: Opened, tmp_path: Path
) -> None:
    case, vendor, destination = opened.case, opened.vendor, opened.destination
    failed: set[str] = set()

    def fail_once(call: Any) -> Any:
        is_first = call.method == "POST" and call.path != "/token" and not failed
        if is_first:
            failed.add("once")
        return TAKEN_THEN_FAILED if is_first else None

    vendor.faults = fail_once
    send_list = a_send_list(1, 2, channel="push", address=case.address)
    send_list = send_list.with_columns(pl.lit(case.channel).alias("channel"))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for as_of in (MONDAY, LATER):
            ended = run(
                ledger,
                send_list,
                destination,
                channel=case.channel,
                as_of=as_of,
                clock=lambda as_of=as_of: as_of,
                renderer=OneMessage(case),
            )
    kind = destination.delivery_class.kind
    expected = ["sent", "unknown"] if kind == "blind" else ["sent", "sent"]
    assert sorted(ended.values()) == expected
    assert sum(vendor.written.values()) == 2


class OneMessage:
    """Renders every send as the message of a case."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def template(self, journey: str, content_id: str, channel: str) -> None:
        pass

    def render(self, send: Send) -> Message:
        message = self._case.message()
        fields = {
            name: text.replace("send1", send.send_id)
            for name, text in message.fields.items()
        }
        return replace(message, send_id=send.send_id, fields=fields)


TWILIO = next(case for case in CASES if case.name == "twilio")


def in_doubt(case: Case, *, minutes_ago: int = 0) -> Send:
    """A send that may have been taken."""
    message = case.message()
    values = dict.fromkeys(Send.__dataclass_fields__)
    return Send(
        **{
            **values,
            "send_id": message.send_id,
            "frozen": message.to_json(),
            "tried_at": MONDAY - timedelta(minutes=minutes_ago),
        }
    )


@pytest.mark.parametrize("case", [TWILIO], ids=["twilio"])
def test_twilio_finds_a_text_on_whatever_page_of_the_list(opened: Opened) -> None:
    vendor, destination = opened.vendor, opened.destination
    assert destination.look_up(in_doubt(opened.case)) == "not_sent"
    destination.send([opened.case.message()])
    send_id = opened.case.message().send_id
    reported_to = vendor.calls[-1].form["StatusCallback"]
    assert reported_to == f"https://x.example/status?send_id={send_id}"
    destination.send([opened.case.message(number) for number in range(2, 6)])
    vendor.page_size = 2
    assert destination.look_up(in_doubt(opened.case)) == "sent"
    vendor.messages[0]["body"] = (
        "Sent from a trial account - " + (vendor.messages[0]["body"])
    )
    assert destination.look_up(in_doubt(opened.case)) == "sent"
    vendor.page_size = 0
    assert destination.look_up(in_doubt(opened.case)) == "unknown"
    vendor.faults = lambda call: (503, {}, {})
    with pytest.raises(DestinationDownError):
        destination.look_up(in_doubt(opened.case))


@pytest.mark.parametrize("case", [TWILIO], ids=["twilio"])
def test_a_number_that_takes_no_texts_is_a_bounce(opened: Opened) -> None:
    answers = {21211: "bounced: twilio_21211", 21610: "twilio_21610"}
    for code, reason in answers.items():
        answer = (400, {}, {"code": code, "message": PHONE})
        opened.vendor.faults = lambda call, answer=answer: answer
        (outcome,) = opened.destination.send([opened.case.message()])
        assert (outcome.state, outcome.reason) == ("dead", reason)


FCM = next(case for case in CASES if case.name == "fcm")


@pytest.mark.parametrize("case", [FCM], ids=["fcm"])
def test_a_device_without_the_app_is_a_bounce_and_a_token_is_fetched_once(
    opened: Opened,
) -> None:
    gone = replace(opened.case.message(), address="gone")
    (outcome,) = opened.destination.send([gone])
    assert outcome.reason == "bounced: fcm_404_UNREGISTERED"
    opened.destination.send([opened.case.message()])
    assert [call.path for call in opened.vendor.calls].count("/token") == 1


def test_every_limit_says_where_and_when_it_was_read() -> None:
    found = [
        value
        for kind in KINDS.values()
        for value in vars(sys.modules[kind.__module__]).values()
        if isinstance(value, Limits)
    ]
    assert len(found) >= 9
    for limits in found:
        assert limits.source
        assert datetime.fromisoformat(limits.read_on)


def test_an_address_that_onesignal_does_not_know_is_a_bounce(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "onesignal")
    with serving(OneSignal()) as url, closing(case.open(url, tmp_path)) as destination:
        gone = replace(case.message(), address="gone")
        (outcome,) = destination.send([gone])
    assert outcome.reason == "bounced: onesignal_not_subscribed"


def test_an_event_that_braze_lists_among_its_errors_was_not_taken(
    tmp_path: Path,
) -> None:
    case = next(case for case in CASES if case.name == "braze")
    vendor = Braze()
    vendor.faults = lambda call: (201, {}, {"message": "success", "errors": ["x"]})
    with serving(vendor) as url, closing(case.open(url, tmp_path)) as destination:
        (outcome,) = destination.send([case.message()])
    assert (outcome.state, outcome.reason) == ("dead", "braze_event_refused")


@pytest.mark.parametrize("channel", ["email", "sms"])
def test_onesignal_writes_to_mailboxes_and_phones_too(
    channel: str, tmp_path: Path
) -> None:
    vendor = Vendor()
    vendor.faults = lambda call: (200, {}, {"id": "a-message"})
    base = next(case for case in CASES if case.name == "onesignal")
    address = PHONE if channel == "sms" else "person1@mail.example"
    line = {**base.line, "sms_from": PHONE}
    case = Case(OneSignal, channel, line, base.secrets, address=address)
    with serving(vendor) as url, closing(case.open(url, tmp_path)) as destination:
        (outcome,) = destination.send([case.message()])
        (refused,) = destination.send([replace(case.message(), address="hello")])
    assert (outcome.state, refused.state) == ("sent", "dead")
    (call,) = vendor.calls
    field = "include_phone_numbers" if channel == "sms" else "email_to"
    assert call.json[field] == [address]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": format_datetime((MONDAY + MINUTE).replace(tzinfo=UTC))}, 60),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1780304405"}, 5),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "3"}, 3),
        ({"ratelimit-remaining": "2", "ratelimit-reset": "3"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "3600"}, None),
    ],
)
def test_an_api_is_called_no_sooner_than_it_asks_for(
    headers: dict[str, str], seconds: int | None
) -> None:
    vendor = Vendor()
    vendor.faults = lambda call: (429, headers, {})
    slept: list[float] = []
    limits = Limits(calls_per_second=1e9, source="", read_on="")
    with (
        serving(vendor) as url,
        closing(
            Api("it", url, limits=limits, clock=lambda: MONDAY, sleep=slept.append)
        ) as api,
    ):
        api.call("GET", "/")
        if seconds is None:
            with pytest.raises(DestinationDownError, match="it: rate_limited"):
                api.call("GET", "/")
        else:
            api.call("GET", "/")
            assert round(sum(slept)) == seconds


def test_a_secret_that_is_not_in_its_place_is_named_and_one_in_the_file_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "destinations.yml"
    around = Surroundings(tmp_path, "hi@shop.example", None, {"EMPTY": " "}, wall_clock)
    for place, reason in (
        ({"env": "NOWHERE"}, "NOWHERE is not set"),
        ({"env": "EMPTY"}, "EMPTY is not set"),
        ({"file": str(tmp_path / "none")}, f"{tmp_path / 'none'} cannot be read"),
    ):
        line = {"destination": "sendgrid", "api_key": place}
        path.write_text(yaml.safe_dump({"email": line}))
        with pytest.raises(DestinationsError) as error:
            require_secrets(read_destinations(path), around)
        assert str(error.value) == f"destinations.yml: email.api_key: {reason}"
    path.write_text("email: {destination: sendgrid, api_key: SG.secret}")
    with pytest.raises(
        DestinationsError, match=r"email.api_key: name the place"
    ) as error:
        read_destinations(path)
    assert "SG.secret" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("{destination: fcm}", "push.project: is missing; add it"),
        (
            "{destination: fcm, projct: x}",
            "push.projct: there is no such option; did you",
        ),
        ("{destination: twilio}", "push: twilio takes texts to phones alone"),
        ("{destination: file, url: x}", "push.url: there is no such option"),
        (
            "{destination: webhook, url: 'http://x.example', secrets: [{env: A}]}",
            "push.url: is no https:// address (where messages are posted, e.g.",
        ),
        (
            "{destination: webhook, url: 'https://a:b@x.example', secrets: [{env: A}]}",
            "push.url: holds a login; name secrets apart",
        ),
        (
            "{destination: klaviyo, api_key: {env: A}}",
            "push: klaviyo takes channels to people with an email, a phone or an id",
        ),
        (
            "{destination: fcm, project: my-shop, service_account: {env: A, file: b}}",
            "push.service_account: write either env or file",
        ),
        ("{destination: file, destination: none}", "push.destination: is there twice"),
    ],
)
def test_a_mistake_in_an_option_is_named_with_its_mend(
    tmp_path: Path, line: str, mend: str
) -> None:
    path = tmp_path / "destinations.yml"
    path.write_text(f"push: {line}\n")
    with pytest.raises(DestinationsError) as error:
        read_destinations(path)
    assert f"destinations.yml: {mend}" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_options_that_the_manual_shows_are_those_that_are_read(
    tmp_path: Path,
) -> None:
    page = (PROJECT / "docs" / "operator.md").read_text()
    (shown,) = re.findall(r"```yaml\n(email:\n.*?)```", page, re.DOTALL)
    path = tmp_path / "destinations.yml"
    path.write_text(shown)
    assert len(read_destinations(path)) == 5
    for name in KINDS:
        assert f"| `{name}` |" in page
