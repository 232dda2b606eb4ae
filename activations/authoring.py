"""What authors wrote, proofread before anybody is sent it.

A journey is used only if its file, and every content file that one of its steps may ask
for, can be used; one that is not stops nobody but itself. It sends nothing.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from liquid import RenderContext
from liquid.ast import Node
from liquid.builtin.tags.for_tag import ForNode
from liquid.exceptions import LiquidError

from activations.blueprint import Journey, needed_contents, read_journeys
from activations.compiler import mistakes, shared_mistakes
from activations.conditions import Vocabulary
from activations.ledger import Send
from activations.parts import nearest
from activations.reading import Problem, Source, authored_files
from activations.registry import CHANNELS
from activations.render import (
    OWN_TRACKING,
    ContentError,
    GapError,
    Renderer,
    RenderError,
    Text,
)

# All that a message may know of a person, each with a likely value.
SAMPLE: Mapping[str, Any] = {
    "first_name": "Ada",
    "timezone": "Europe/Paris",
    "phase_name": "action",
    "currency": "EUR",
    "product_id": "tent-2",
    "product_name": "Tent",
    "category": "Camping",
    "product_price": 129.5,
    "recent_buyer_count": 12,
    "related_products": [
        {"product_id": "peg-1", "product_name": "Peg", "price": 3.5},
        {"product_id": "rope-1", "product_name": "Rope", "price": 9.0},
    ],
    "cart_value_amount": 133.0,
    "order_id": "order-9",
    "incentive_code": "BACK10",
    "incentive_percent": 10,
    "incentive_ends_at": "2026-07-03T20:00:00",
}
ENDS = ("first", "last", "size")
IN_FRAME = (
    "content",
    "unsubscribe_link",
    "preferences_link",
    "subject",
    "preheader",
    "link",
)
LINK = re.compile(r"""\b(?:href|src)\s*=\s*["']?\s*([^\s"'>]+)""", re.IGNORECASE)
FAR = re.compile(r"(?:https://|mailto:|tel:|\{\{|\{%)", re.IGNORECASE)


def read_usable(
    folder: Path, renderer: Renderer, vocabulary: Vocabulary, *, today: date
) -> tuple[list[Journey], list[Problem]]:
    """The journeys that can be used on a day, and what keeps the others from it.

    Raises:
        AuthoredError: if there is no journey file at all.
    """
    journeys, problems = read_journeys(folder)
    spoilt = [
        *compiled_problems(folder, journeys, vocabulary),
        *(
            problem
            for journey in journeys
            for problem in content_problems(journey, renderer, today)
        ),
    ]
    set_aside = {problem.name for problem in spoilt}
    usable = [journey for journey in journeys if journey.journey not in set_aside]
    return usable, [*problems, *spoilt]


def compiled_problems(
    folder: Path, journeys: Sequence[Journey], vocabulary: Vocabulary
) -> Iterator[Problem]:
    """What can never be, or must not, in journeys that are well-formed."""
    found = [
        (journey, mistake)
        for journey in journeys
        for mistake in mistakes(journey, vocabulary)
    ]
    for journey, mistake in [*found, *shared_mistakes(journeys)]:
        (path,) = (
            path for path in authored_files(folder) if path.stem == journey.journey
        )
        source = Source(path)
        source.read()
        yield source.problem(
            mistake.location,
            mistake.reason,
            code=mistake.code,
            witness=mistake.witness,
        )


def content_problems(
    journey: Journey, renderer: Renderer, today: date
) -> list[Problem]:
    """What is wrong with the content that a journey may need, in any phase."""
    problems: dict[Problem, None] = {}
    for content_id, channel in sorted(needed_contents([journey])):
        send = a_send(journey, content_id, channel)
        try:
            mistakes = list(written_mistakes(renderer, send))
            template = renderer.template(journey.journey, content_id, channel)
            if template.valid_until and template.valid_until[0] < today:
                day, line = template.valid_until
                problem = Problem(
                    journey.journey,
                    template.name,
                    line,
                    "valid_until",
                    f"what it says was true until {day}; write what is true now, and "
                    "until when",
                    "expired-content",
                    f"Ada reads on {today} what held until {day}",
                )
                problems[problem] = None
        except ContentError as error:
            mistakes = [error]
        # what is wrong as it is written would only be found once more
        for mistake in mistakes or trial_mistakes(renderer, send):
            problem = Problem(
                journey.journey,
                mistake.file,
                mistake.line,
                mistake.field,
                mistake.reason,
                "content",
            )
            problems[problem] = None
    return list(problems)


def a_send(journey: Journey, content_id: str, channel: str) -> Send:
    """A made-up send of this content to somebody of whom everything is known."""
    return Send(
        send_id="trial",
        enrollment_id="trial",
        journey=journey.journey,
        step="trial",
        channel=channel,
        profile_id="trial",
        destination="trial",
        address="ada@mail.example",
        content_id=content_id,
        message_class=journey.message_class,
        payload=json.dumps(SAMPLE),
        as_of=datetime.fromisoformat("2026-07-01T09:00:00"),
        attempts=0,
    )


def written_mistakes(renderer: Renderer, send: Send) -> Iterator[ContentError]:
    """Words, filters and links of a content file and its frame that cannot be meant.

    Raises:
        ContentError: if a file is missing or cannot be read.
    """
    words = renderer.context(send)
    template = renderer.template(send.journey, send.content_id, send.channel)
    for field, text in template.fields.items():
        known = {**words, "link": ""} if field == "body" else words
        yield from text_mistakes(template.name, field, text, known)
    form = CHANNELS[send.channel].message_form
    if form == "email":
        yield from near_links(template.name, template.fields["body"])
    if form in ("email", "sms"):
        frame, name = renderer.layout(form), f"_layout.{form}.liquid"
        known = {**words, **dict.fromkeys(IN_FRAME, "")}
        yield from text_mistakes(name, "body", frame, known)


def text_mistakes(
    file: str, field: str, text: Text, known: Mapping[str, Any]
) -> Iterator[ContentError]:
    """Words and filters that do not exist, wherever they stand, and own tracking."""
    mistake = partial(ContentError, file, field=field)
    try:
        analysis = text.template.analyze()
    except LiquidError as error:
        yield mistake(str(error.message))
        return
    environment = text.template.env
    for name, spans in analysis.filters.items():
        if name not in environment.filters:
            mend = nearest(name, sorted(environment.filters))
            reason = f"there is no filter {name}; {mend}"
            yield mistake(reason, line=text.line(spans[0].index))
    loops = dict(items_of_loops(text, known))
    for name, variables in analysis.variables.items():
        is_global = name in analysis.globals
        if not is_global and (name in analysis.locals or name not in loops):
            continue
        for variable in variables:
            scope = known if is_global else {name: loops[name]}
            unknown = unknown_word(variable.segments, scope)
            if unknown:
                word, words = unknown
                reason = f"there is no word {word}; {nearest(word, sorted(words))}"
                yield mistake(reason, line=text.line(variable.span.index))
    for own in OWN_TRACKING.finditer(text.written):
        reason = f"takes {own[1]} by itself; leave it out of the link"
        yield mistake(reason, line=text.line(own.start()))


def items_of_loops(text: Text, known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each loop over a known list: what its word stands for."""
    static = RenderContext(text.template)
    nodes: list[Node] = list(text.template.nodes)
    while nodes:
        node = nodes.pop()
        nodes += node.children(static, include_partials=False)
        if isinstance(node, ForNode):
            value: Any = known
            for part in getattr(node.expression.iterable, "path", ()):
                value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, list) and value:
                yield node.expression.identifier, value[0]


def unknown_word(
    segments: Sequence[object], known: Mapping[str, Any]
) -> tuple[str, Sequence[str]] | None:
    """The first part of a word that does not exist, and what exists in its place."""
    value: Any = known
    for segment in segments:
        if segment == "size" or not isinstance(segment, str | int):
            return None
        if isinstance(value, list) and (isinstance(segment, int) or segment in ENDS):
            value = value[0] if value else None
            continue
        words = value if isinstance(value, Mapping) else dict.fromkeys(ENDS)
        if segment not in words:
            return str(segment), list(words)
        value = words[segment]
    return None


def near_links(file: str, body: Text) -> Iterator[ContentError]:
    """Each link of an email that only a page of the shop could follow."""
    for link in LINK.finditer(body.written):
        if not FAR.match(link[1]):
            line = body.line(link.start(1))
            yield ContentError(file, mend_link(link[1]), line=line, field="body")


def mend_link(link: str) -> str:
    """What to write for a link that leads nowhere from a mailbox."""
    if link.startswith("/"):
        tracked = f"{{{{ '{link}' | tracked }}}}"
        return f'{link} leads nowhere from a mailbox; write "{tracked}"'
    return f"{link} leads nowhere; a link begins with https://, mailto: or tel:"


def trial_mistakes(renderer: Renderer, send: Send) -> Iterator[ContentError]:
    """What goes wrong in the message itself, for who is known well and for a stranger.

    A word that the stranger lacks is no mistake: it keeps back that message alone.
    """
    for payload in (send.payload, "{}"):
        try:
            message = renderer.render(replace(send, payload=payload))
            near = [
                link[1]
                for link in LINK.finditer(message.fields.get("html", ""))
                if not FAR.match(link[1])
            ]
            reason = mend_link(near[0]) if near else None
        except GapError as error:
            reason = str(error) if payload == send.payload else None
        except (RenderError, ContentError) as error:
            reason = str(error)
        # a filter that was given what it cannot take, and the like
        except Exception as error:
            reason = f"cannot be made: {type(error).__name__}"
        if reason:
            name = renderer.template(send.journey, send.content_id, send.channel).name
            yield ContentError(name, reason, field="message")
            return
