"""A step's messages as their readers see them: on a page, before anybody is sent one.

It renders what a run would, and measures what each channel makes of it; it sends
nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.headerregistry import Address
from typing import Any

from markupsafe import Markup

from activations.authoring import SAMPLE, a_send
from activations.blueprint import Journey, Step
from activations.channels.mail import as_mail
from activations.ledger import Send
from activations.parts import PHASES, Phase, nearest
from activations.registry import CHANNELS
from activations.render import (
    GSM_BASIC,
    GSM_EXTENDED,
    ContentError,
    Message,
    Renderer,
    RenderError,
)

GMAIL_CLIPS_AT = 102 * 1024
# About how many characters are seen before an ellipsis, by title and text.
PUSH_CUTS: Mapping[str, tuple[int, int]] = {
    "iPhone, on the lock screen": (40, 178),
    "iPhone, as a banner": (40, 110),
    "Android, folded": (45, 50),
    "Android, unfolded": (65, 240),
    "Chrome on a desktop": (50, 120),
}
INCENTIVE = ("incentive_code", "incentive_percent", "incentive_ends_at")
DARK = "filter: invert(1) hue-rotate(180deg)"
"""What mail apps that darken by themselves do to a page, about."""
STYLE = """
    body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem;
        padding: 0 1rem; color-scheme: light dark }
    section { border-top: 1px solid #8886; margin-top: 2rem }
    iframe { width: 100%; height: 40rem; border: 1px solid #8886; background: #fff }
    .both { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem }
    pre, .card { border: 1px solid #8886; border-radius: 8px; padding: .75rem;
        white-space: pre-wrap; overflow-wrap: anywhere; max-width: 44rem }
    td, th { text-align: left; padding: 0 1rem 0 0; vertical-align: top }
    .problem { color: #c92a2a; font-weight: bold } mark { background: #fa05 }
"""


class PreviewError(Exception):
    """There is no such journey, step or channel; in one line, with the mend."""


@dataclass(frozen=True)
class Shown:
    """One message of a step: the send that it stands for, and it or what is wrong."""

    send: Send
    message: Message | None
    problem: str | None = None


def previewed(
    renderer: Renderer,
    journey: Journey,
    *,
    step: str | None,
    channel: str | None,
    phase: Phase | None,
    words: Mapping[str, Any] = SAMPLE,
    as_of: datetime | None = None,
) -> list[Shown]:
    """Each message of a journey, or of one of its steps and channels, for one person.

    `phase` is that of the person; without one every content that a phase has is shown.
    `words` is all that is known of them, as a run at `as_of` would.

    Raises:
        PreviewError: naming what there is instead.
    """
    steps = [placed.step for placed in journey.messages]
    names = [known.step for known in steps]
    if step is not None and step not in names:
        raise PreviewError(
            f"{journey.journey} has no step {step}; {nearest(step, names)}"
        )
    steps = [known for known in steps if step in (None, known.step)]
    channels = {name for known in steps for name in known.channels}
    if channel is not None and channel not in channels:
        raise PreviewError(
            f"nothing of it goes out on {channel}; {nearest(channel, sorted(channels))}"
        )
    shown = []
    for known in steps:
        phases = [phase] if phase else PHASES
        for name in known.channels:
            contents = {known.content_for(each) for each in phases}
            for content_id in sorted(contents if channel in (None, name) else ()):
                send = a_send(journey, content_id, name)
                moment = as_of or send.as_of
                payload = json.dumps({**words, **offer(known, moment)}, default=str)
                send = replace(send, step=known.step, payload=payload, as_of=moment)
                shown.append(show(renderer, send))
    return shown


def offer(step: Step, as_of: datetime) -> dict[str, Any]:
    """The words of a step's timed offer; all missing where it has none."""
    if step.incentive is None:
        return dict.fromkeys(INCENTIVE)
    return {
        "incentive_code": step.incentive.code,
        "incentive_percent": step.incentive.percent,
        "incentive_ends_at": (as_of + step.incentive.valid_for).isoformat(),
    }


def show(renderer: Renderer, send: Send) -> Shown:
    """The message of a send, or why there is none."""
    try:
        return Shown(send, renderer.render(send))
    except (ContentError, RenderError) as error:
        return Shown(send, None, str(error))


def preview_page(shown: Iterable[Shown], whom: str) -> str:
    """Messages as one HTML page that needs nothing else and runs no script."""
    parts = [Markup("<p>As {} would see them.</p>").format(whom)]
    for each in shown:
        send = each.send
        parts.append(
            Markup("<section><h2>{} <small>{}, {}</small></h2>").format(
                send.step, send.channel, send.content_id
            )
        )
        if each.message is None:
            parts.append(Markup('<p class="problem">{}</p>').format(each.problem))
        else:
            form = CHANNELS[send.channel].message_form
            draw = {"email": draw_email, "sms": draw_sms}.get(form, draw_card)
            parts.append(draw(each.message))
        parts.append(Markup("</section>"))
    return Markup(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        "<title>Preview</title><style>{}</style>{}</html>\n"
    ).format(Markup(STYLE), Markup("\n").join(parts))


def draw_email(message: Message) -> Markup:
    """An email by day and by night, its headers and its text part."""
    mail = as_mail(message, sender=Address("Preview", addr_spec="preview@shop.example"))
    headers = [(name, str(value)) for name, value in mail.items()]
    size = len(message.fields["html"].encode())
    clipped = " and is clipped by Gmail" if size > GMAIL_CLIPS_AT else ""
    frame = Markup('<iframe sandbox="" srcdoc="{}" style="{}"></iframe>')
    html = message.fields["html"]
    return Markup(
        '<div class="card"><b>{}</b> {}</div>'
        '<div class="both"><div>By day{}</div><div>By night{}</div></div>'
        "<p>The HTML part has {} bytes{}.</p>{}<h3>Text part</h3><pre>{}</pre>"
    ).format(
        message.fields["subject"],
        message.fields["preheader"],
        frame.format(html, ""),
        frame.format(html, DARK),
        f"{size:,}",
        clipped,
        draw_facts(headers),
        message.fields["text"],
    )


def draw_sms(message: Message) -> Markup:
    """A text message, in how many parts it goes, and which characters cost some."""
    text = message.fields["body"]
    return Markup('<pre class="card">{}</pre>{}').format(
        text, draw_facts(sms_facts(text, message.fields["segments"]))
    )


def sms_facts(text: str, segments: str) -> list[tuple[str, str]]:
    """Encoding and length of a text message, and what keeps it from the short one."""
    odd = sorted(set(text) - GSM_BASIC - GSM_EXTENDED)
    encoding = "UCS-2, 70 characters a segment" if odd else "GSM-7, 160 a segment"
    facts = [
        ("Segments", segments),
        ("Encoding", encoding),
        ("Characters", str(len(text))),
    ]
    if odd:
        facts.append(("Not in GSM-7", " ".join(odd)))
    return facts


def draw_card(message: Message) -> Markup:
    """A push, a card or a letter, and where a screen cuts it."""
    fields = message.fields
    card = Markup('<div class="card"><b>{}</b><br>{}</div>').format(
        fields.get("title", ""), fields["body"]
    )
    rest = [
        (name, value) for name, value in fields.items() if name not in ("title", "body")
    ]
    if message.channel != "push":
        return card + draw_facts(rest)
    return card + draw_facts([*rest, *push_facts(fields["title"], fields["body"])])


def push_facts(title: str, body: str) -> Iterator[tuple[str, str]]:
    """What is seen of a push on each kind of screen, about."""
    for screen, (title_length, body_length) in PUSH_CUTS.items():
        yield screen, f"{cut(title, title_length)} / {cut(body, body_length)}"


def cut(text: str, length: int) -> str:
    """A text as a screen that has room for so many characters shows it."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def draw_facts(facts: Iterable[tuple[str, str]]) -> Markup:
    """Names and values as a table."""
    rows = (
        Markup("<tr><th>{}</th><td>{}</td></tr>").format(name, value)
        for name, value in facts
    )
    return Markup("<table>{}</table>").format(Markup("").join(rows))
