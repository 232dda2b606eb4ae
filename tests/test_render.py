"""Rendering: every content file works for everyone, and no message has a gap."""

import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activations.blueprint import load_journeys, needed_contents
from activations.ledger import Send
from activations.registry import CHANNELS
from activations.render import (
    CONTENT,
    ContentError,
    Renderer,
    RenderError,
    sms_segments,
)
from tests.conftest import LINKS

AS_OF = datetime.fromisoformat("2026-06-01T09:00:00")
JOURNEYS = load_journeys(CONTENT.parent / "journeys")
EXAMPLES = load_journeys(CONTENT.parent / "journeys" / "examples")
CONTENTS = sorted(
    (journey.journey, content_id, channel, journey.message_class)
    for journey in [*JOURNEYS, *EXAMPLES]
    for content_id, channel in needed_contents([journey])
)
EVERYTHING = {
    "first_name": "Zoë & Co <b>",
    "phase_name": "action",
    "timezone": "Australia/Sydney",
    "product_id": "tent/2 & more",
    "product_name": 'Tent "A&B" <x>',
    "category": "Camping & Fishing",
    "product_price": 129.5,
    "recent_buyer_count": 12,
    "related_products": [
        {"product_id": "peg", "product_name": "Peg <i>", "price": 3.5},
        {"product_id": "rope", "product_name": "Rope", "price": None},
    ],
    "cart_value_amount": 1500.0,
    "order_id": "o-9",
    "incentive_code": "BACK10",
    "incentive_percent": 10,
    "incentive_ends_at": "2026-07-03T20:00:00",
}
SHOP = Renderer(shop_url="https://shop.example/", links=LINKS, currency="USD")
NOTHING: dict[str, Any] = dict.fromkeys(EVERYTHING)


def a_send(
    payload: dict[str, Any] | None = None,
    *,
    journey: str = "cart_recovery",
    content_id: str = "hello",
    channel: str = "push",
    message_class: str = "marketing",
    address: str | None = "ada@example.com",
) -> Send:
    return Send(
        send_id="0123456789abcdef0123456789abcdef",
        enrollment_id="enrollment",
        journey=journey,
        step="a_step",
        channel=channel,
        profile_id="profile",
        destination="file",
        address=address,
        content_id=content_id,
        message_class=message_class,
        payload=None if payload is None else json.dumps(payload),
        as_of=AS_OF,
        attempts=1,
    )


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return SHOP


@pytest.fixture
def write(tmp_path: Path):
    """Write one content file beside the real layouts; returns a renderer of it."""

    def write_content(
        text: str, channel: str = "push", currency: str = "USD"
    ) -> Renderer:
        for path in CONTENT.iterdir():
            if path.is_file():
                (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
        (tmp_path / "cart_recovery").mkdir(exist_ok=True)
        path = tmp_path / "cart_recovery" / f"hello.{channel}.liquid"
        path.write_text(text, encoding="utf-8")
        return Renderer(
            shop_url="https://shop.example",
            links=LINKS,
            currency=currency,
            content=tmp_path,
        )

    return write_content


def push(body: str, title: str = "Hello") -> str:
    return f"---\ntitle: {title}\nlink: /cart\n---\n{body}\n"


@pytest.mark.parametrize("payload", [EVERYTHING, NOTHING, {}], ids=["all", "null", "-"])
@pytest.mark.parametrize(
    ("journey", "content_id", "channel", "message_class"),
    CONTENTS,
    ids=[f"{content_id}.{channel}" for _, content_id, channel, _ in CONTENTS],
)
def test_every_content_works_for_everyone(
    renderer, journey, content_id, channel, message_class, payload
):
    message = renderer.render(
        a_send(
            payload,
            journey=journey,
            content_id=content_id,
            channel=channel,
            message_class=message_class,
        )
    )
    shown = " ".join(
        text
        for name, text in message.fields.items()
        if name not in ("html", "link", "unsubscribe_link")
    )
    assert all(text.strip() for text in message.fields.values())
    assert not re.search(r"\{\{|\{%|None|null", shown)
    assert not re.search(r" [,.;?!]|\(\)|,,|\.\.", shown)


def test_no_content_file_is_without_a_step():
    written = {
        path.relative_to(CONTENT).as_posix()
        for path in CONTENT.rglob("*.liquid")
        if not path.name.startswith("_")
    }
    needed = {
        f"{journey}/{content_id}.{channel}.liquid"
        for journey, content_id, channel, _ in CONTENTS
    }
    assert written == needed


@pytest.mark.parametrize(
    ("journey", "content_id"),
    [
        (journey, content_id)
        for journey, content_id, channel, message_class in CONTENTS
        if channel == "email" and message_class == "marketing"
    ],
)
def test_every_marketing_email_can_be_unsubscribed_from(renderer, journey, content_id):
    fields = renderer.render(
        a_send({}, journey=journey, content_id=content_id, channel="email")
    ).fields
    assert fields["unsubscribe_link"] in fields["text"]
    assert fields["unsubscribe_link"] in fields["html"]
    assert renderer.brand["postal_address"] in fields["html"]


def test_a_service_email_has_no_unsubscribe_link(renderer):
    fields = renderer.render(
        a_send(
            {},
            journey="restoration",
            content_id="restoration_apology",
            channel="email",
            message_class="transactional",
        )
    ).fields
    assert "unsubscribe_link" not in fields
    assert "nsubscribe" not in fields["html"]


EMAIL_BODIES = {
    "words alone": ("Hello there", "Hello there"),
    "words in pieces": ("Hello <b>there</b> <i>you</i>", "Hello there you"),
    "html alone": ("<p>Hello</p><p>there</p>", "Hello\n\nthere"),
    "a heading": ("<h1>Hello</h1>there", "Hello\n\nthere"),
    "a link": (
        '<a href="https://a.example/x">Hello</a>',
        "Hello (https://a.example/x)",
    ),
    "mjml alone": ("<mj-text>Hello</mj-text>", "Hello"),
    "words and mjml": ("Hello <mj-text>there</mj-text> you", "Hello\nthere\n\nyou"),
    "html and mjml": ("<p>Hello</p><mj-text>there</mj-text>", "Hello\n\nthere"),
    "html within mjml": ("<mj-raw><p>Hello</p></mj-raw>", "Hello"),
    "a list": ("<ul><li>Hello</li><li>there</li></ul>", "- Hello\n\n- there"),
    "a table": (
        "<mj-table><tr><td>Hello</td><td>there</td></tr></mj-table>",
        "Hello there",
    ),
    "a picture": (
        '<mj-image src="https://a.example/a" alt="A hat" href="https://b.example" />',
        "A hat (https://b.example)",
    ),
    "a picture within words": (
        '<mj-text>Your<img src="https://a.example/a.png" alt="hat" />is here</mj-text>',
        "Your hat is here",
    ),
    "a fold": (
        "<mj-accordion><mj-accordion-element><mj-accordion-title>Hello"
        "</mj-accordion-title><mj-accordion-text>there</mj-accordion-text>"
        "</mj-accordion-element></mj-accordion>",
        "Hello\n\nthere",
    ),
    "what nobody sees": (
        "<mj-text><!-- a note --><style>p {}</style>Hello</mj-text>",
        "Hello",
    ),
}


@pytest.mark.parametrize("kind", EMAIL_BODIES)
def test_the_text_of_an_email_says_all_that_its_html_shows(write, kind):
    body, expected = EMAIL_BODIES[kind]
    head = "---\nsubject: s\npreheader: not shown\nlink: /\n---\n"
    fields = write(head + body, "email").render(a_send({}, channel="email")).fields
    assert "not shown" not in fields["text"]
    shown = fields["text"].split("\n\n", 1)[1].split("\n\nYou get this")[0]
    assert shown == expected
    assert "Hello" in fields["html"] or "hat" in fields["html"]


def test_marketing_texts_tell_how_to_stop_and_service_texts_do_not(write):
    sms = write("---\nlink: /cart\n---\nYour cart: {{ link }}\n", "sms")
    assert (
        sms.render(a_send({}, channel="sms"))
        .fields["body"]
        .endswith("Reply STOP to opt out.")
    )
    service = a_send({}, channel="sms", message_class="transactional")
    assert "STOP" not in sms.render(service).fields["body"]


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)


@given(st.text(alphabet="<>&\"'/=abi script{}%\n", min_size=1))
@settings(max_examples=40, deadline=None)
def test_what_a_customer_typed_never_becomes_markup(text):
    def tags(name: str) -> set[str]:
        product = {"product_id": name, "product_name": name, "price": 1}
        payload = EVERYTHING | {
            "first_name": name,
            "product_name": name,
            "related_products": [product],
        }
        send = a_send(payload, content_id="cart_offer", channel="email")
        return Tags(SHOP.render(send).fields["html"]).seen

    assert tags(f"x{text}") == tags("x")


def test_subjects_and_titles_are_one_line(renderer):
    payload = {"first_name": "Ada\r\nBcc: all@example.com"}
    send = a_send(
        payload,
        journey="advocacy",
        content_id="advocacy_review",
        channel="email",
    )
    assert "\n" not in renderer.render(send).fields["subject"]


@pytest.mark.parametrize(
    "body",
    [
        "{{ nobody_knows }}",
        "{{ first_name }}",
        "{{ first_name | upcase }}",
        "{{ incentive_ends_at | date: '%Y' }}",
        "{{ incentive_ends_at | local_date: '%Y' }}",
        "{{ product_price | money }}",
        "{{ brand.motto }}",
        "{% for product in related_products %}{{ product.product_name }}{% endfor %}",
        "{% assign name = first_name %}{{ name | append: '!' }}",
        "Hi {{ first_name | append: ', ' }}",
    ],
)
@pytest.mark.parametrize("payload", [{}, NOTHING, dict.fromkeys(EVERYTHING, " ")])
def test_a_gap_is_an_error_that_names_file_and_line(write, body, payload):
    with pytest.raises(RenderError, match=r"cart_recovery/hello\.push\.liquid:5: "):
        write(push(body)).render(a_send(payload))


def test_a_gap_in_one_of_many_is_an_error(write):
    renderer = write(
        push("{% for p in related_products %}{{ p.product_name }} {% endfor %}")
    )
    payload = {"related_products": [{"product_name": "Peg"}, {"product_id": "rope"}]}
    with pytest.raises(RenderError, match=r"p\.product_name"):
        renderer.render(a_send(payload))


def test_a_missing_word_may_have_a_default_or_a_condition(write):
    renderer = write(
        push("Hi {{ first_name | default: 'there' }}{% if order_id %}!{% endif %}")
    )
    assert renderer.render(a_send({})).fields["body"] == "Hi there"


def test_an_error_never_quotes_what_we_know_of_a_person(write):
    renderer = write(
        push("{{ first_name | money }}{{ first_name | local_date: '%Y' }}")
    )
    with pytest.raises(RenderError) as caught:
        renderer.render(a_send({"first_name": "Wilhelmina"}))
    assert "Wilhelmina" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (push("{{ first_name"), r"liquid:5: "),
        (push("{% if first_name %}"), "liquid"),
        (push("{{ first_name | shout }}"), "liquid:5: "),
        ("no fields here", "two lines of ---"),
        ("---\ntitle: [\n---\nbody\n", r"push\.liquid:3: "),
        ("---\ntitle: Hello\n---\nbody\n", "link: is missing"),
        ("---\ntitle: Hello\nlink: /\nlnik: /\n---\nbody\n", r":4: lnik: .* mean link"),
        ("---\ntitle: Hello\nlink: /\nlink: /b\n---\nbody\n", ":4: link: .* keep one"),
    ],
)
def test_a_broken_content_file_is_named(write, text, what):
    with pytest.raises((ContentError, RenderError), match=what):
        write(text).render(a_send({"first_name": "Ada"}))


def test_a_missing_content_file_is_named(renderer):
    with pytest.raises(ContentError, match=r"cart_recovery/nothing\.sms\.liquid"):
        renderer.template("cart_recovery", "nothing", "sms")


@pytest.mark.parametrize("name", ["../ledger", "..", "a/b", "/etc/passwd", "A"])
def test_content_stays_in_its_folder(renderer, name):
    with pytest.raises(ContentError):
        renderer.template("cart_recovery", name, "push")
    with pytest.raises(ContentError):
        renderer.template(name, "cart_offer", "email")


def test_broken_mjml_is_an_error(write):
    text = "---\nsubject: s\npreheader: p\nlink: /\n---\n<mj-text>never closed\n"
    with pytest.raises(RenderError, match="MJML"):
        write(text, "email").render(a_send({}, channel="email"))


def test_links_say_where_the_click_came_from(renderer):
    link = renderer.render(
        a_send({}, content_id="cart_reminder", channel="push")
    ).fields["link"]
    assert link == (
        "https://shop.example/cart?utm_source=rekindle&utm_medium=push"
        "&utm_campaign=cart_recovery&utm_content=a_step"
        "&send_id=0123456789abcdef0123456789abcdef"
    )


@pytest.mark.parametrize("link", ["javascript:alert(1)", "cart", "http://shop.example"])
def test_a_link_to_nowhere_safe_is_an_error(write, link):
    text = f"---\ntitle: Hello\nlink: '{link}'\n---\nbody\n"
    with pytest.raises(RenderError, match="link"):
        write(text).render(a_send({}))


@pytest.mark.parametrize(
    ("currency", "amount", "shown"),
    [
        ("USD", 1234.5, "$1,234.50"),
        ("EUR", "9.9", "€9.90"),
        ("JPY", 1200, "¥1,200"),
        ("CHF", 3, "3.00 CHF"),
    ],
)
def test_money_is_written_in_the_shops_currency(write, currency, amount, shown):
    renderer = write(push("{{ product_price | money }}"), currency=currency)
    assert renderer.render(a_send({"product_price": amount})).fields["body"] == shown


def test_a_deadline_is_told_in_the_persons_own_time(write):
    renderer = write(push("{{ incentive_ends_at | local_date: '%A %H:%M' }}"))
    ends = {"incentive_ends_at": "2026-07-03T20:00:00"}
    sydney = renderer.render(a_send(ends | {"timezone": "Australia/Sydney"}))
    assert sydney.fields["body"] == "Saturday 06:00"
    for zone in ({}, {"timezone": "Nowhere/Atlantis"}, {"timezone": "../etc"}):
        assert renderer.render(a_send(ends | zone)).fields["body"] == "Friday 20:00"


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("ł" * 70, 1),
        ("ł" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
    ],
)
def test_sms_are_counted_as_networks_bill_them(text, segments):
    assert sms_segments(text) == segments


def test_a_text_that_would_be_a_novel_is_not_sent(write):
    renderer = write("---\nlink: /cart\n---\n{{ product_name }}\n", "sms")
    with pytest.raises(RenderError, match="SMS segments"):
        renderer.render(a_send({"product_name": "x" * 1000}, channel="sms"))


@pytest.mark.parametrize(
    ("journey", "content_id"),
    [
        (journey, content)
        for journey, content, channel, _ in CONTENTS
        if channel == "sms"
    ],
)
def test_every_text_is_short_enough_with_the_longest_names(
    renderer, journey, content_id
):
    payload = EVERYTHING | {
        "first_name": "Wolfeschlegelstein",
        "product_name": "An unreasonably long name of a product " * 4,
        "category": "A category that nobody would read to its end",
    }
    fields = renderer.render(
        a_send(payload, journey=journey, content_id=content_id, channel="sms")
    ).fields
    assert int(fields["segments"]) <= 3


def test_every_channel_can_be_written_for():
    assert {rule.message_form for rule in CHANNELS.values()} == {
        CHANNELS[channel].message_form
        for journey in JOURNEYS
        for placed in journey.messages
        for channel in placed.step.channels
    }
