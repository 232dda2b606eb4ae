"""What is said by HTTP is on disk when it is answered, and said by whom it is about.

One service answers for most tests, on the loopback address; what it lands is read from
its files. Signatures are made by other code than that which checks them.
"""

import base64
import gzip
import hashlib
import hmac
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import polars as pl
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright
from standardwebhooks import Webhook

from activations.links import BadTokenError, Links
from orchestration.links import links_of
from orchestration.settings import PROJECT, Settings, SettingsError, wall_clock
from orchestration.sources.inbound.app import LARGEST_BODY, listen, server
from orchestration.sources.inbound.journal import standing_still
from orchestration.sources.inbound.limits import BURST_SECONDS, Buckets
from orchestration.sources.inbound.replies import ReplyWords
from orchestration.sources.inbound.webhooks import BadSignatureError, Call
from orchestration.sources.inbound.webhooks.sendgrid import SendGrid
from orchestration.sources.inbound.webhooks.twilio import Twilio
from orchestration.sources.landing import land, landing_fingerprint
from orchestration.warehouse import Warehouse
from tests.conftest import LINKS, TestHome
from tests.resolving import resolve
from tests.test_guard import Street
from tests.test_render import a_send

SEEDS = PROJECT / "dbt_project" / "seeds"
WORDS = ReplyWords.read(SEEDS / "spellings.csv")
SENDGRID_KEY = ec.generate_private_key(ec.SECP256R1())
SECRET = f"whsec_{base64.b64encode(b'a secret of the tests').decode()}"
KEYED: dict[str, Any] = {
    "write_keys": "old key,web-key",
    "sendgrid_webhook_key": base64.b64encode(
        SENDGRID_KEY.public_key().public_bytes(
            serialization.Encoding.DER,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    ).decode(),
    "twilio_auth_token": "12345",
    "klaviyo_webhook_secret": "klaviyo-secret",
    "braze_currents_token": "braze-token",
    "webhook_secret": SECRET,
    "inbound_rate": 100_000,
}
Headers = Mapping[str, str]


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str


@dataclass
class Service:
    """A service that runs, and its home."""

    home: TestHome
    port: int
    links: Links = field(init=False)

    def __post_init__(self) -> None:
        self.links = links_of(self.home.settings)

    def call(
        self,
        path: str,
        body: bytes | None = None,
        headers: Headers | None = None,
        method: str | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            method = method or ("GET" if body is None else "POST")
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read().decode())
        finally:
            connection.close()

    def lines(self) -> list[dict[str, Any]]:
        """All that has landed, the oldest first."""
        return landed(self.home.settings.landing)

    def path(self, page: str, **send: Any) -> str:
        """The path of a link of an email to somebody."""
        made = {"identifier_type": "user_id", "identifier": "ada", **send}
        link = getattr(self.links, page)(
            a_send(channel="email").__class__(
                **{**vars(a_send(channel="email")), **made}
            )
        )
        return urlsplit(link).path


def landed(landing: Path) -> list[dict[str, Any]]:
    paths = sorted((landing / "inbound").glob("[!.]*"))
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    return [
        json.loads(line) for path in paths for line in path.read_text().splitlines()
    ]


@contextmanager
def serving(home: TestHome, **stated: Any) -> Iterator[Service]:
    """The service on a free port, until the test ends."""
    home.settings = Settings(home=home.settings.root, _env_file=None, **stated)
    answering = server(home.settings, proxies="127.0.0.1")
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=answering.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Service(home, port)
        finally:
            answering.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def service(new_home: Callable[[str], TestHome]) -> Iterator[Service]:
    with serving(new_home("inbound"), **KEYED) as service:
        yield service


@pytest.fixture
def news(service: Service) -> Callable[[], list[dict[str, Any]]]:
    """What has landed since the test began."""
    before = len(service.lines())
    return lambda: service.lines()[before:]


News = Callable[[], list[dict[str, Any]]]

# --- links ----------------------------------------------------------------------------


def token_of(links: Links = LINKS, **values: Any) -> str:
    send = a_send(channel="email")
    made = {"identifier_type": "email", "identifier": "ada@mail.example", **values}
    return links.unsubscribe(send.__class__(**{**vars(send), **made})).rpartition("/")[
        2
    ]


@given(st.data(), st.text(min_size=1, max_size=40))
def test_a_token_with_any_bit_flipped_is_refused(data, identifier) -> None:
    token = token_of(identifier=identifier)
    assert LINKS.read(token).identifier == identifier
    place = data.draw(st.integers(0, len(token) * 8 - 1))
    flipped = bytearray(token.encode())
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(BadTokenError):
        LINKS.read(flipped.decode("latin-1"))


def test_a_part_of_a_token_is_refused_and_so_is_more() -> None:
    token = token_of()
    for other in (
        *(token[:end] for end in range(len(token))),
        f"{token}A",
        f"{token}=",
    ):
        with pytest.raises(BadTokenError):
            LINKS.read(other)


def test_a_key_that_signs_no_more_still_reads_until_it_is_gone() -> None:
    old, new = "o" * 32, "n" * 32
    token = token_of(Links("https://shop.example", [old]))
    assert Links("https://shop.example", [new, old]).read(token).channel == "email"
    with pytest.raises(BadTokenError):
        Links("https://shop.example", [new]).read(token)
    assert token != token_of(Links("https://shop.example", [new, old]))


def test_a_home_makes_one_key_and_keeps_it_to_itself(home: TestHome) -> None:
    token = token_of(links_of(home.settings))
    assert links_of(home.settings).read(token) == links_of(home.settings).read(token)
    assert home.settings.made_link_keys.stat().st_mode & 0o777 == 0o600
    stated = home.settings.model_copy(update={"link_keys_file": home.settings.root})
    with pytest.raises(SettingsError, match="cannot be read"):
        links_of(stated)


def test_nothing_shows_whom_a_token_is_about_but_the_token() -> None:
    assert "ada" not in repr(LINKS.read(token_of()))


# --- unsubscribe ----------------------------------------------------------------------


def test_looking_at_the_page_changes_nothing(service: Service, news: News) -> None:
    path = service.path("unsubscribe")
    page = service.call(path)
    assert page.status == service.call(path, method="HEAD").status == 200
    assert news() == []
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in page.headers
    assert "<script" not in page.body


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (
            b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\n'
            b"One-Click\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
        (b"", "text/plain"),
    ],
)
def test_one_click_is_an_unsubscribe_without_cookies(
    service: Service, news: News, body: bytes, kind: str
) -> None:
    answer = service.call(service.path("unsubscribe"), body, {"Content-Type": kind})
    assert (answer.status, "set-cookie" in answer.headers) == (200, False)
    (line,) = news()
    assert (line["event"], line["userId"]) == ("Unsubscribed", "ada")
    assert line["properties"]["channel"] == "email"
    assert line["properties"]["send_id"] == a_send().send_id
    assert abs(datetime.fromisoformat(line["receivedAt"]) - datetime.now(UTC)) < (
        timedelta(hours=1)
    )


def test_every_bad_link_gets_the_same_answer_and_lands_nothing(
    service: Service, news: News
) -> None:
    token = service.path("unsubscribe").rpartition("/")[2]
    foreign = token_of(Links("https://shop.example", ["x" * 32]))
    answers = {
        (answer.status, answer.body)
        for page in ("unsubscribe", "preferences")
        for bad in (token[:-1], token[1:], f"{token}x", foreign, "x", "%F0%9F")
        for body in (None, b"")
        for answer in [service.call(f"/{page}/{bad}", body)]
    }
    assert [status for status, _ in answers] == [404]
    assert news() == []


def test_who_unsubscribes_twice_says_so_twice(service: Service, news: News) -> None:
    path = service.path("unsubscribe")
    service.call(path, b"")
    service.call(path, b"")
    assert len({line["messageId"] for line in news()}) == 2


def test_an_unsubscribe_stops_what_was_about_to_be_sent(home: TestHome) -> None:
    street = Street(home, ["ann", "bob"])
    guard = street.guard()
    assert guard(["ann", "bob"]) == {}
    before = landing_fingerprint(home.settings.landing)
    with serving(home) as service:
        path = service.path("unsubscribe", identifier="user-ann")
        assert service.call(path, b"List-Unsubscribe=One-Click").status == 200
        assert guard(["ann", "bob"]) == {"ann": "guard: Unsubscribed has landed since"}
    # the schedule reads it; a run after every click would never end
    assert landing_fingerprint(home.settings.landing) == before


# --- preferences ----------------------------------------------------------------------


class Form(HTMLParser):
    """What a screen reader makes of a page's form."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.bare: list[str | None] = []
        self.offered: set[tuple[str, str]] = set()
        self.legends: list[str] = []
        self.language: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "html":
            self.language = values.get("lang")
        if tag == "input":
            self.offered.add((str(values["name"]), str(values["value"])))
            if not {"label", "fieldset", "form"} <= set(self.open):
                self.bare.append(values["name"])
        elif tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "legend":
            self.legends.append(data)


def give_a_topic(home: TestHome) -> None:
    """Make a home the brand's whose journey is about the outdoors."""
    source = PROJECT / "activations" / "journeys" / "cart_recovery.yml"
    folder = home.settings.config / "journeys"
    folder.mkdir(parents=True)
    text = source.read_text().replace("version: 1\n", "version: 1\npurpose: outdoors\n")
    (folder / source.name).write_text(text)


@pytest.fixture(scope="module")
def newsletter(service: Service) -> Service:
    give_a_topic(service.home)
    return service


def test_the_page_of_preferences_can_be_read_aloud_and_says_nothing_of_before(
    newsletter: Service,
) -> None:
    page = newsletter.call(newsletter.path("preferences")).body
    form = Form(page)
    assert (form.open, form.bare, form.language) == ([], [], "en")
    assert form.legends[:2] == ["Email", "Text messages"]
    assert form.legends[-1] == "Outdoors"
    assert "width=device-width" in page
    assert ("channel email", "granted") in form.offered
    # whoever reads this email need not hold that phone
    assert ("channel sms", "granted") not in form.offered


def test_what_is_chosen_lands_and_what_is_left_does_not(
    newsletter: Service, news: News
) -> None:
    form = {
        "channel email": "granted",
        "channel sms": "denied",
        "channel push": "keep",
        "channel direct_mail": "granted",
        "topic outdoors": "denied",
        "topic of somebody else": "denied",
    }
    path = newsletter.path("preferences")
    assert newsletter.call(path, urlencode(form).encode()).status == 200
    (line,) = news()
    assert [tuple(one.values()) for one in line["properties"]["consents"]] == [
        ("email", "marketing", "granted"),
        ("sms", "marketing", "denied"),
        ("all", "marketing:outdoors", "denied"),
    ]


def test_to_stop_all_is_one_button_whatever_else_is_chosen(
    service: Service, news: News
) -> None:
    form = {"channel email": "granted", "everything": "denied"}
    service.call(service.path("preferences"), urlencode(form).encode())
    (line,) = news()
    (stated,) = line["properties"]["consents"]
    assert (stated["channel"], stated["status"]) == ("all", "denied")


def test_who_leaves_everything_as_it_is_says_nothing(
    service: Service, news: News
) -> None:
    body = urlencode({"channel email": "keep"}).encode()
    assert service.call(service.path("preferences"), body).status == 200
    assert news() == []


def test_a_page_of_the_brands_own_that_is_broken_is_replaced(home: TestHome) -> None:
    content = home.settings.config / "content"
    content.mkdir(parents=True)
    (content / "_layout.page.liquid").write_text("{{ no_such_word }}")
    with serving(home) as service:
        page = service.call(service.path("unsubscribe")).body
        assert "<h1>Unsubscribe</h1>" in page


def test_a_brand_without_a_page_of_its_own_is_named_on_ours(home: TestHome) -> None:
    content = home.settings.config / "content"
    content.mkdir(parents=True)
    (content / "brand.yml").write_text("name: Tents & Co\n")
    with serving(home) as service:
        page = service.call(service.path("unsubscribe")).body
        assert "no more offers from Tents &amp; Co" in page


def test_the_pages_fit_a_phone_and_their_buttons_work(
    service: Service, news: News, chromium: str
) -> None:
    address = f"http://127.0.0.1:{service.port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(address + service.path("unsubscribe"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("button", name="Unsubscribe").click()
        page.get_by_role("status").wait_for()
        page.get_by_role("link", name="Choose what else you get").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        texts = page.get_by_role("group", name="Text messages")
        texts.get_by_label("No, do not send it").check()
        page.get_by_role("button", name="Save").click()
        page.get_by_role("status").wait_for()
        browser.close()
    one_click, preferences = (line["properties"] for line in news())
    assert one_click["channel"] == "email"
    assert [one["channel"] for one in preferences["consents"]] == ["sms"]


# --- answers by SMS -------------------------------------------------------------------

STOPS = (
    *("stop", "quit", "revoke", "opt out", "opt-out", "cancel", "unsubscribe", "end"),
    *("stopall", "optout", "arrêt", "STOP"),
)
BEFORE = st.sampled_from(["", " ", "please ", "\n", "(", "😡 ", "Don't wait: "])
AFTER = st.sampled_from(["", " ", "!!!", "...", " now", "\n", ")", " 😡"])


@given(st.sampled_from(STOPS), BEFORE, AFTER, st.booleans())
def test_a_stop_is_one_in_any_case_with_anything_around_it(
    word, before, after, is_loud
) -> None:
    text = f"{before}{word.upper() if is_loud else word}{after}"
    assert WORDS.answer(text) == "stop"


@given(st.text(max_size=60), st.sampled_from(STOPS), st.text(max_size=60))
@effort(max_examples=200)
def test_no_words_around_a_stop_make_it_something_else(before, word, after) -> None:
    assert WORDS.answer(f"{before} {word} {after}") == "stop"


def test_a_stop_may_be_spelled_out_or_typed_wide() -> None:
    for text in ("S T O P", "s.t.o.p", "ＳＴＯＰ", "Opt me out", "no", "No more"):
        assert WORDS.answer(text) == "stop", text


def test_only_start_and_unstop_by_themselves_take_a_stop_back() -> None:
    for text in ("START", " start. ", "UnStop!"):
        assert WORDS.answer(text) == "start"
    for text in ("yes", "YES", "start the car", "ok", "when do you start?", "", "y"):
        assert WORDS.answer(text) == "other", text
    assert WORDS.answer("start, no: stop") == "stop"


def twilio(service: Service, path: str, token: str = "12345", **form: str) -> Answer:
    """A call as Twilio signs it: the address, then the form's fields by name."""
    signed = f"https://shop.example{path}" + "".join(
        name + form[name] for name in sorted(form)
    )
    signature = hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()
    headers = {
        "X-Twilio-Signature": base64.b64encode(signature).decode(),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return service.call(path, urlencode(form).encode(), headers)


def test_twilio_signs_as_its_documentation_shows() -> None:
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+12349013030",
        "Digits": "1234",
        "From": "+12349013030",
        "To": "+18005551212",
    }
    call = Call(
        "https://mycompany.com/myapp.php?foo=1&bar=2",
        {"x-twilio-signature": "0/KCTR6DLpKmkAf8muzZqo1nDgQ="},
        urlencode(form).encode(),
    )
    assert Twilio("12345", WORDS).form(call) == form


@pytest.mark.parametrize(
    ("said", "kind", "event"),
    [
        ("Stop please", "", "SMS Stopped"),
        ("PARA", "STOP", "SMS Stopped"),
        ("Start", "", "Channel Consent Updated"),
        ("stop", "START", "SMS Stopped"),
        ("Is it in stock?", "", "Customer Message Received"),
        ("", "", "Customer Message Received"),
    ],
)
def test_an_answer_by_sms_lands_as_what_it_asks_for(
    service: Service, news: News, said: str, kind: str, event: str
) -> None:
    form = {"From": "+4790000001", "Body": said, "MessageSid": f"SM{said}{kind}"}
    answer = twilio(
        service,
        "/webhooks/twilio/message",
        **form,
        **({"OptOutType": kind} if kind else {}),
    )
    assert (answer.status, answer.headers["content-type"][:8]) == (200, "text/xml")
    (line,) = news()
    assert (line["event"], line["anonymousId"]) == (event, "+4790000001")
    assert line["properties"]["channel"] == "sms"


# --- webhooks of tools ----------------------------------------------------------------


def sendgrid(
    service: Service, events: Any, at: float | None = None, tamper: bytes = b""
) -> Answer:
    body = json.dumps(events).encode()
    stamp = str(int(time.time() if at is None else at))
    signature = SENDGRID_KEY.sign(stamp.encode() + body, ec.ECDSA(SHA256()))
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
    }
    return service.call("/webhooks/sendgrid", body + tamper, headers)


def standard(
    service: Service, body: Any, at: datetime | None = None, tamper: bytes = b""
) -> Answer:
    text = json.dumps(body)
    moment = at or datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", moment, text),
    }
    return service.call("/webhooks/standard", text.encode() + tamper, headers)


def klaviyo(
    service: Service, data: Any, at: float | None = None, tamper: bytes = b""
) -> Answer:
    stamp = str(int(time.time() if at is None else at))
    body = json.dumps({"data": data, "meta": {"klaviyo_webhook_id": "w1"}}).encode()
    signed = hmac.new(b"klaviyo-secret", body + stamp.encode(), hashlib.sha256)
    headers = {
        "Klaviyo-Signature": signed.hexdigest(),
        "Klaviyo-Timestamp": stamp,
        "Klaviyo-Webhook-Id": "w1",
    }
    return service.call("/webhooks/klaviyo", body + tamper, headers)


def meaning(event: str) -> tuple[str, str, str]:
    """What the seed says of an event: its kind, action and channel."""
    spelled = re.sub(r"[^a-z0-9]", "", event.lower())
    events = pl.read_csv(SEEDS / "semantic_events.csv", infer_schema=False)
    found = {
        re.sub(r"[^a-z0-9]", "", row["event"].lower()): row
        for row in events.iter_rows(named=True)
    }[spelled]
    return found["kind"], found["action"], found["channel"]


SENDGRID_EVENTS = {
    "delivered": ("message", "delivered", "email"),
    "open": ("message", "opened", "email"),
    "click": ("message", "clicked", "email"),
    "bounce": ("message", "bounced", "email"),
    "dropped": ("message", "failed", "email"),
    "spamreport": ("message", "complained", "email"),
    "unsubscribe": ("message", "unsubscribed", "email"),
    "group_unsubscribe": ("message", "unsubscribed", "email"),
    "group_resubscribe": ("consent", "granted", "email"),
}


def test_sendgrid_signs_as_its_own_library_tests_show() -> None:
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcw"
        "HBcepxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA=="
    )
    signature = (
        "MEUCIQCtIHJeH93Y+qpYeWrySphQgpNGNr/U+UyUlBkU6n7RAwIgJTz2C+8a8xonZGi6BpSzoQsbVRam"
        "r2nlxFDWYNH2j/0="
    )
    body = (
        b'{"category":"example_payload","event":"test_event","message_id":"message_id"}'
    )
    headers = {
        "x-twilio-email-event-webhook-signature": signature,
        "x-twilio-email-event-webhook-timestamp": "1588788367",
    }
    # it is good, and years old
    with pytest.raises(BadSignatureError, match="too old"):
        SendGrid(key).lines(Call("", headers, body))
    with pytest.raises(BadSignatureError, match=r"^signature$"):
        SendGrid(key).lines(Call("", headers, body + b" "))


def test_sendgrid_says_what_became_of_a_send(service: Service, news: News) -> None:
    events = [
        {
            "event": event,
            "email": "ada@mail.example",
            "timestamp": 1769000000,
            "sg_event_id": f"e-{event}",
            "send_id": "send-1",
            "ip": "203.0.113.9",
        }
        for event in ("processed", *SENDGRID_EVENTS)
    ]
    assert sendgrid(service, events).status == 204
    lines = news()
    assert [meaning(line["event"]) for line in lines] == [*SENDGRID_EVENTS.values()]
    for line in lines:
        assert line["anonymousId"] == line["properties"]["email"] == "ada@mail.example"
        assert line["properties"]["send_id"] == "send-1"
        assert line["timestamp"] == "2026-01-21T12:53:20.000Z"
        assert "203.0.113.9" not in json.dumps(line)


def test_twilio_says_how_far_a_text_came(service: Service, news: News) -> None:
    path = "/webhooks/twilio/status?send_id=send-2"
    for status, code in (
        ("sent", ""),
        ("delivered", ""),
        ("undelivered", "30003"),
        ("failed", "21610"),
    ):
        form = {"MessageSid": "SM1", "MessageStatus": status, "To": "+4790000001"}
        assert twilio(service, path, **form, ErrorCode=code).status == 204
    lines = news()
    assert [meaning(line["event"]) for line in lines] == [
        ("message", "delivered", "sms"),
        ("message", "failed", "sms"),
        ("message", "failed", "sms"),
    ]
    assert {line["properties"]["send_id"] for line in lines} == {"send-2"}
    assert [line["properties"].get("bounce_type") for line in lines] == [
        None,
        "soft",
        "hard",
    ]


def klaviyo_event(metric: str | None, topic: str) -> dict[str, Any]:
    included: list[dict[str, Any]] = [
        {
            "type": "profile",
            "attributes": {"email": "ada@mail.example", "external_id": "ada"},
        }
    ]
    if metric:
        included.append({"type": "metric", "attributes": {"name": metric}})
    return {
        "external_id": f"k-{topic}",
        "topic": f"event:klaviyo.{topic}",
        "payload": {
            "data": {
                "type": "event",
                "attributes": {
                    "datetime": "2026-01-21T12:53:20+00:00",
                    "event_properties": {"Campaign Name": "Spring"},
                },
            },
            "included": included,
        },
    }


def test_klaviyo_and_braze_speak_of_their_users_by_their_own_names(
    service: Service, news: News
) -> None:
    data = [
        klaviyo_event("Bounced Email", "bounced_email"),
        klaviyo_event(None, "unsubscribed_from_email_marketing"),
    ]
    assert klaviyo(service, data).status == 204
    currents = {
        "events": [
            {
                "id": "b-1",
                "event_type": "users.messages.email.MarkAsSpam",
                "time": 1769000000,
                "user": {"user_id": "braze-1", "external_user_id": "ada"},
                "properties": {"email_address": "ada@mail.example"},
            }
        ]
    }
    bearer = {"Authorization": "Bearer braze-token"}
    body = json.dumps(currents).encode()
    assert service.call("/webhooks/braze", body, bearer).status == 204
    lines = news()
    assert [meaning(line["event"])[:2] for line in lines] == [
        ("message", "bounced"),
        ("message", "unsubscribed"),
        ("message", "complained"),
    ]
    assert {line["userId"] for line in lines} == {"ada"}
    for line in lines:
        assert datetime.fromisoformat(line["timestamp"]).year == 2026


def test_a_standard_webhook_holds_an_event_or_messages_of_the_spec(
    service: Service, news: News
) -> None:
    message = {"type": "track", "event": "Order Completed", "userId": "ada"}
    for body in (
        {
            "type": "Email Bounced",
            "timestamp": "2026-01-21T12:53:20Z",
            "data": {"email": "ada@mail.example", "send_id": "send-3"},
        },
        message,
        {"batch": [message, {**message, "messageId": "own"}]},
    ):
        assert standard(service, body).status == 204
    assert [(line["messageId"], line["event"]) for line in news()] == [
        ("msg_1", "Email Bounced"),
        ("msg_1", "Order Completed"),
        ("msg_1-0", "Order Completed"),
        ("own", "Order Completed"),
    ]


def test_what_nobody_signed_or_not_lately_is_refused_and_lands_nothing(
    service: Service, news: News
) -> None:
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    message = "/webhooks/twilio/message"
    stop = {"From": "+4790000001", "Body": "Stop", "MessageSid": "SM9"}
    refused = [
        sendgrid(service, [], tamper=b" "),
        sendgrid(service, [], at=(now - 30 * hour).timestamp()),
        sendgrid(service, [], at=(now + hour).timestamp()),
        klaviyo(service, [], tamper=b" "),
        klaviyo(service, [], at=(now - hour).timestamp()),
        standard(service, {}, tamper=b" "),
        standard(service, {}, at=now - hour),
        standard(service, {}, at=now + hour),
        twilio(service, message, token="54321", **stop),
        service.call(message, urlencode(stop).encode()),
        service.call("/webhooks/braze", b"{}", {"Authorization": "Bearer x"}),
        *(
            service.call(f"/webhooks/{name}", b"[]")
            for name in ("sendgrid", "klaviyo", "braze", "standard")
        ),
    ]
    assert {answer.status for answer in refused} == {401}
    assert len({answer.body for answer in refused}) == 1
    assert news() == []


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
@effort(max_examples=60)
def test_a_form_of_which_any_bit_was_flipped_is_not_twilios(place, bit) -> None:
    """The form as it stands in memory: no server, so that many can be tried."""
    url, form = "https://shop.example/x", {"Body": "Start", "From": "+4790000001"}
    signed = url + "".join(name + form[name] for name in sorted(form))
    signature = hmac.new(b"12345", signed.encode(), hashlib.sha1).digest()
    headers = {"x-twilio-signature": base64.b64encode(signature).decode()}
    body = bytearray("&".join(f"{name}={form[name]}" for name in form), "ascii")
    body[place % len(body)] ^= 1 << bit
    try:
        found = Twilio("12345", WORDS).form(Call(url, headers, bytes(body)))
    except BadSignatureError:
        return
    # a plus and a space are one character of a form
    assert found == form


# --- events of SDKs -------------------------------------------------------------------


def basic(key: str = "web-key") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}"}


def test_each_call_of_the_spec_lands_with_our_time_and_an_id(
    service: Service, news: News
) -> None:
    calls = ("track", "identify", "page", "screen", "group", "alias")
    for call in calls:
        body = {"userId": "ada", "receivedAt": "1999-01-01T00:00:00Z"}
        answer = service.call(f"/v1/{call}", json.dumps(body).encode(), basic())
        assert (answer.status, json.loads(answer.body)) == (200, {"success": True})
    lines = news()
    assert [line["type"] for line in lines] == list(calls)
    assert len({line["messageId"] for line in lines}) == len(calls)
    assert {line["receivedAt"][:4] for line in lines} == {f"{wall_clock():%Y}"}


def test_a_batch_may_be_zipped_and_says_for_all_when_it_was_sent(
    service: Service, news: News
) -> None:
    message = {
        "type": "track",
        "userId": "ada",
        "messageId": "m1",
        "event": "Order Completed",
        "timestamp": "2026-01-21T12:00:00Z",
    }
    batch = {
        "batch": [message, {**message, "messageId": "m2", "sentAt": "yesterday"}],
        "sentAt": "2026-01-21T12:00:05Z",
        "context": {"library": {"name": "x"}},
        "writeKey": "web-key",
    }
    answer = service.call("/v1/b", gzip.compress(json.dumps(batch).encode()))
    assert answer.status == 200
    first, second = news()
    # what a wrong clock said is mended by how wrong it was
    assert first["originalTimestamp"] == message["timestamp"]
    assert first["sentAt"] == batch["sentAt"]
    assert "timestamp" not in first
    assert second["timestamp"] == message["timestamp"]
    assert first["context"] == second["context"] == batch["context"]
    assert "web-key" not in json.dumps([first, second])


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/track", b"{}", {}, 401),
        ("/v1/track", b"{}", basic("web-ke"), 401),
        ("/v1/track", b"{}", {"Authorization": "Basic ü"}, 401),
        ("/v1/batch", b'{"writeKey": "", "batch": []}', {}, 401),
        ("/v1/batch", b'{"writeKey": "\\ud800", "batch": []}', {}, 401),
        ("/v1/dance", b"{}", basic(), 404),
        ("/v1/track", b"[]", basic(), 400),
        ("/v1/track", b'{"userId": NaN}', basic(), 400),
        ("/v1/track", b"\xff", basic(), 400),
        ("/v1/track", b"[" * 100_000, basic(), 400),
        ("/v1/batch", b'{"batch": [1]}', basic(), 400),
        ("/v1/batch", b'{"batch": {}}', basic(), 400),
        ("/v1/batch", gzip.compress(b'{"batch": []}', mtime=0)[:-9], basic(), 400),
        ("/v1/batch", b" " * (LARGEST_BODY + 1), basic(), 413),
        ("/v1/batch", gzip.compress(b" " * (LARGEST_BODY + 1), mtime=0), basic(), 413),
        ("/webhooks/unknown", b"{}", {}, 404),
    ],
)
def test_a_bad_request_is_refused_by_its_right_code(
    service: Service,
    news: News,
    path: str,
    body: bytes,
    headers: Headers,
    status: int,
) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    assert service.call(path, body, encoded).status == status  # type: ignore[arg-type]
    assert news() == []


def test_a_body_of_any_depth_is_taken_or_refused(home: TestHome) -> None:
    """Python reads a little deeper than it writes."""
    with serving(home, **KEYED) as service:
        statuses = [
            service.call(
                "/v1/track",
                b'{"userId": "ada", "x": ' + b"[" * depth + b"]" * depth + b"}",
                basic(),
            ).status
            for depth in range(700, 1100, 4)
        ]
    assert set(statuses) == {200, 400}
    (path,) = (home.settings.landing / "inbound").glob("*.ndjson")
    assert len(path.read_text().splitlines()) == statuses.count(200)


def test_a_browser_may_send_from_any_site(service: Service) -> None:
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = service.call("/v1/track", headers=asked, method="OPTIONS")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_what_is_sent_again_is_landed_once_as_it_first_came(home: TestHome) -> None:
    with serving(home, **KEYED) as service:
        body = {"userId": "ada", "messageId": "m1", "event": "Order Completed"}
        for _ in range(3):
            service.call("/v1/track", json.dumps(body).encode(), basic())
        sendgrid(
            service, [{"event": "open", "email": "a@b.example", "sg_event_id": "1"}]
        )
        sendgrid(
            service, [{"event": "open", "email": "a@b.example", "sg_event_id": "1"}]
        )
        first = service.lines()[0]["receivedAt"]
    warehouse = Warehouse(home.settings.warehouse)
    with warehouse.connect() as connection:
        landed_now = land(connection, home.settings.landing, wall_clock())
    assert (landed_now.row_count, landed_now.rejected_count) == (5, 0)
    events = warehouse.read(
        "select message_id, received_at from raw.events order by message_id"
    )
    assert events["message_id"].to_list() == ["m1", "sendgrid-1"]
    assert events["received_at"][0].isoformat() == first.removesuffix("Z") + "000"


# --- floods, full disks, kill -9 ------------------------------------------------------


@given(
    st.integers(1, 50),
    st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=300),
)
def test_no_source_gets_more_than_its_rate_and_two_seconds_of_it(rate, pauses) -> None:
    buckets = Buckets(rate)
    now = 0.0
    let_in = 0
    for pause in pauses:
        now += pause
        # of an IPv6 network each address is the same source's
        let_in += buckets.take(f"2001:db8::{len(str(now))}", now)
        assert let_in <= rate * (BURST_SECONDS + now) + 1e-6
    assert buckets.take("203.0.113.9", now)


def test_a_flood_is_held_back_and_an_unsubscribe_goes_through(home: TestHome) -> None:
    with serving(home, **{**KEYED, "inbound_rate": 1}) as service:
        path = service.path("unsubscribe")
        body = json.dumps({"userId": "ada"}).encode()
        answers = [service.call("/v1/track", body, basic()) for _ in range(20)]
        refused = [answer for answer in answers if answer.status == 429]
        assert len(refused) >= 10
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert {answer.status for answer in answers} <= {200, 429}
        assert [service.call(path, b"").status for _ in range(5)] == [200] * 5
        assert service.call(f"{path}x", b"").status == 429
        # another source has a bucket of its own
        other = {**basic(), "X-Forwarded-For": "203.0.113.9"}
        assert service.call("/v1/track", body, other).status == 200


def test_nothing_is_promised_that_the_disk_did_not_take(home: TestHome) -> None:
    in_the_way = home.settings.landing / "inbound"
    in_the_way.touch()
    with serving(home, **KEYED) as service:
        path = service.path("unsubscribe")
        answer = service.call(path, b"")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert service.call("/health").status == 503
        in_the_way.unlink()
        assert service.call("/health").status == 200
        assert service.call(path, b"").status == 200
        assert len(service.lines()) == 1


def test_a_file_that_is_written_anew_meanwhile_costs_no_line(home: TestHome) -> None:
    """As when a person is erased: each file is copied without some, and replaced."""
    landing = home.settings.landing
    with serving(home, **KEYED) as service:

        def send(sender: int) -> None:
            for number in range(40):
                body = {"userId": "ada", "messageId": f"{sender}-{number}"}
                answer = service.call("/v1/track", json.dumps(body).encode(), basic())
                assert answer.status == 200

        senders = [threading.Thread(target=send, args=(each,)) for each in range(4)]
        for sender in senders:
            sender.start()
        while any(sender.is_alive() for sender in senders):
            with standing_still(landing):
                for path in (landing / "inbound").glob("*.ndjson"):
                    unfinished = path.with_suffix(".tmp")
                    unfinished.write_bytes(path.read_bytes())
                    unfinished.chmod(0o600)
                    unfinished.replace(path)
            time.sleep(0.01)
        ids = {line["messageId"] for line in service.lines()}
        for path in (landing / "inbound").iterdir():
            path.unlink()
        send(5)
        assert len(service.lines()) == 40
    assert ids == {f"{sender}-{number}" for sender in range(4) for number in range(40)}


def test_what_was_acknowledged_is_landed_however_the_process_ends(
    home: TestHome,
) -> None:
    acknowledged: list[str] = []
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "inbound", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={
            "REKINDLE_HOME": str(home.settings.root),
            "REKINDLE_WRITE_KEYS": "web-key",
            "PATH": "/usr/bin:/bin",
        },
        cwd=PROJECT,
    )
    try:
        assert process.stdout is not None
        (port,) = re.findall(r":(\d+)$", process.stdout.readline().strip())

        def send(sender: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
            try:
                for number in range(100_000):
                    ids = [f"{sender}-{number}-{each}" for each in range(3)]
                    batch = [
                        {
                            "type": "track",
                            "userId": "ada",
                            "event": "x",
                            "messageId": id_,
                        }
                        for id_ in ids
                    ]
                    body = json.dumps({"batch": batch})
                    connection.request("POST", "/v1/batch", body, basic())
                    if connection.getresponse().read() == b'{"success":true}':
                        acknowledged.extend(ids)
            except (OSError, http.client.HTTPException):
                return

        senders = [threading.Thread(target=send, args=(each,)) for each in range(8)]
        for sender in senders:
            sender.start()
        while len(acknowledged) < 600 and any(each.is_alive() for each in senders):
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for sender in senders:
        sender.join()
    warehouse = Warehouse(home.settings.warehouse)
    with warehouse.connect() as connection:
        land(connection, home.settings.landing, wall_clock())
    found = set(warehouse.read("select message_id from raw.events")["message_id"])
    assert len(acknowledged) >= 600
    assert set(acknowledged) <= found


# --- what a run makes of it -----------------------------------------------------------


def test_a_run_reads_each_opt_out_and_each_yes_as_it_was_meant(home: TestHome) -> None:
    phones = {name: f"+479000000{number}" for number, name in enumerate("abcdefghi")}
    give_a_topic(home)
    home.land(
        {
            "type": "identify",
            "messageId": f"identify-{name}",
            "userId": name,
            "timestamp": "2026-01-01T09:00:00Z",
            "traits": {"email": f"{name}@mail.example", "phone": phone},
        }
        for name, phone in phones.items()
    )
    agreed = {"channel": "sms", "purpose": "marketing", "status": "granted"}
    home.land(
        [
            {
                "type": "track",
                "event": "Channel Consent Updated",
                "messageId": "agreed",
                "userId": "e",
                "timestamp": "2026-01-02T09:00:00Z",
                "properties": agreed,
            }
        ],
        "agreed.ndjson",
    )
    with serving(home, **KEYED) as service:
        message = "/webhooks/twilio/message"

        def choose(name: str, **form: str) -> None:
            body = urlencode({key.replace("_", " "): form[key] for key in form})
            path = service.path("preferences", identifier=name)
            assert service.call(path, body.encode()).status == 200

        for name in ("a", "g"):
            service.call(service.path("unsubscribe", identifier=name), b"")
        choose("b", everything="denied")
        choose("h", topic_outdoors="denied")
        for sid, name, said in (
            ("SM1", "c", "pls STOP!"),
            ("SM2", "d", "Yes"),
            ("SM3", "e", "stop"),
            ("SM4", "i", "stop"),
        ):
            twilio(service, message, From=phones[name], Body=said, MessageSid=sid)
        # a message later than another has a later second
        time.sleep(1.1)
        for sid, name in (("SM5", "e"), ("SM6", "i")):
            twilio(service, message, From=phones[name], Body="START", MessageSid=sid)
        choose("g", channel_email="granted")
        sendgrid(
            service,
            [{"event": "spamreport", "email": "f@mail.example", "sg_event_id": "s1"}],
        )
    resolve(home, wall_clock() + timedelta(minutes=1))
    consents = home.read(
        """
        select map.identifier as person, channel, purpose, status
        from profiles.consents as consents
        inner join identity.identity_map as map using (profile_id)
        where map.identifier_type = 'user_id'
        """
    ).rows()
    channels = set(home.read("select channel from seeds.channel_rules")["channel"])
    everywhere = {*channels, "all"}
    assert set(consents) == {
        ("a", "email", "marketing", "denied"),
        *(("b", channel, "marketing", "denied") for channel in everywhere),
        ("c", "sms", "marketing", "denied"),
        ("e", "sms", "marketing", "granted"),
        # who never agreed has nothing to be given back
        ("i", "sms", "marketing", "denied"),
        ("g", "email", "marketing", "granted"),
        *(("h", channel, "marketing:outdoors", "denied") for channel in everywhere),
    }
    reasons = home.read(
        """
        select map.identifier, points.channel, points.unreachable_reason
        from profiles.contact_points as points
        inner join identity.identity_map as map using (profile_id)
        where map.identifier_type = 'user_id' and points.channel in ('email', 'sms')
            and points.unreachable_reason is not null
        """
    ).rows()
    assert set(reasons) == {
        ("c", "sms", "stopped"),
        ("f", "email", "complained"),
        ("i", "sms", "stopped"),
    }
    assert home.read(
        "select * from staging.not_understood where effect <> 'ignored'"
    ).is_empty()
