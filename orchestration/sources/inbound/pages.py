"""The pages behind a link of a message: to unsubscribe, and to choose what comes.

A page changes nothing until its button is pressed: mail gateways follow links, too. It
shows what may be chosen, not what was: a message that was passed on shows nobody more
than it already does. Whoever follows a link has the address that it was sent to, and so
may say no to everything, and yes there.
"""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from activations.blueprint import read_journeys
from activations.links import PREFERENCES, UNSUBSCRIBE, Links, Recipient
from activations.reading import authored_files
from activations.registry import CHANNELS
from activations.render import CONTENT, ContentError, Renderer, RenderError, fill
from orchestration.settings import Settings
from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import track

EVERYTHING = "everything"
ALL_CHANNELS = "all"
REFUSAL = {"channel": ALL_CHANNELS, "purpose": "marketing", "status": "denied"}


@dataclass(frozen=True)
class Choice:
    """Something that may be refused, and asked for if `may_grant`."""

    name: str
    label: str
    channel: str
    purpose: str
    may_grant: bool


class Pages:
    """Pages in the words and the look of a brand."""

    def __init__(self, settings: Settings, links: Links) -> None:
        self._settings = settings
        self._files: list[tuple[Path, int]] = []
        self._known_topics: list[str] = []
        self._renderers = [
            Renderer(
                shop_url=settings.shop_url,
                links=links,
                currency=settings.base_currency or "USD",
                content=content,
            )
            for content in (settings.content, CONTENT)
        ]

    def page(self, name: str, token: str, recipient: Recipient) -> str:
        """A page of one recipient, as HTML."""
        return self._fill(
            {
                "page": name,
                "channel": recipient.channel.replace("_", " "),
                # from page to page, whatever stands before them
                "unsubscribe_link": f"../{UNSUBSCRIBE}/{token}",
                "preferences_link": f"../{PREFERENCES}/{token}",
                "choices": (
                    [vars(choice) for choice in self.choices(recipient)]
                    if name == PREFERENCES
                    else []
                ),
            }
        )

    def refusal(self) -> str:
        """The page of a link that cannot be used, whatever is wrong with it."""
        return self._fill({"page": "refusal"})

    def choices(self, recipient: Recipient) -> list[Choice]:
        """What one may choose: each channel, and each topic of the journeys of now."""
        channels = [
            Choice(
                name=f"channel {channel}",
                label=channel.replace("_", " ").capitalize(),
                channel=channel,
                purpose="marketing",
                may_grant=channel == recipient.channel,
            )
            for channel in CHANNELS
        ]
        topics = [
            Choice(
                name=f"topic {topic}",
                label=topic.replace("_", " ").capitalize(),
                channel=recipient.channel,
                purpose=f"marketing:{topic}",
                may_grant=True,
            )
            for topic in self._topics()
        ]
        return channels + topics

    def _topics(self) -> list[str]:
        """The topics of marketing journeys, read anew when their files have changed."""
        folder = self._settings.journeys
        files = [(path, path.stat().st_mtime_ns) for path in authored_files(folder)]
        if files != self._files:
            self._known_topics = topics_of(folder) if files else []
            self._files = files
        return self._known_topics

    def _fill(self, words: Mapping[str, object]) -> str:
        """The brand's own frame, else the shipped one: a page has to come."""
        own, shipped = self._renderers
        for renderer in (own, shipped):
            with suppress(ContentError, RenderError):
                return fill(renderer.layout("page"), {**words, "brand": own.brand})
        return fill(shipped.layout("page"), {**words, "brand": {}})


def topics_of(folder: Path) -> list[str]:
    """The topics of the marketing journeys of a folder, of those that can be read."""
    journeys, _ = read_journeys(folder)
    purposes = {
        journey.purpose for journey in journeys if journey.message_class == "marketing"
    }
    return sorted(filter(None, purposes - {"marketing"}))


def opt_out(recipient: Recipient) -> Line:
    """The line by which a recipient wants no more offers on that channel."""
    if recipient.channel == "email":
        return said(recipient, "Unsubscribed", {"channel": recipient.channel})
    return said(
        recipient,
        "Channel Consent Updated",
        consents([REFUSAL | {"channel": recipient.channel}]),
    )


def chosen(recipient: Recipient, choices: list[Choice], body: bytes) -> list[Line]:
    """The line of what somebody chose; none of what they left as it is."""
    form = dict(parse_qsl(body.decode(errors="replace")))
    if EVERYTHING in form:
        stated = [REFUSAL]
    else:
        stated = [
            {
                # no more of a topic is no more of it anywhere
                "channel": ALL_CHANNELS
                if form[choice.name] == "denied" and is_topic(choice)
                else choice.channel,
                "purpose": choice.purpose,
                "status": form[choice.name],
            }
            for choice in choices
            if form.get(choice.name)
            in (("granted", "denied") if choice.may_grant else ("denied",))
        ]
    if not stated:
        return []
    return [said(recipient, "Channel Consent Updated", consents(stated))]


def consents(stated: list[dict[str, str]]) -> dict[str, Any]:
    """Permissions as one statement: each for its channel and purpose, and no other."""
    return {"consents": stated, "lawful_basis": "consent", "policy_version": "link"}


def said(recipient: Recipient, event: str, properties: Mapping[str, Any]) -> Line:
    """A line of a recipient, named as in the receipt of the send, and by their address.

    Its id is new each time: who says no, yes and no again has said the last no, too.
    """
    is_user = recipient.identifier_type == "user_id"
    address = {
        kind: recipient.identifier
        for kind in ("email", "phone")
        if recipient.identifier_type == kind
    }
    return track(
        event,
        f"link-{recipient.send_id}-{secrets.token_hex(8)}",
        {"userId" if is_user else "anonymousId": recipient.identifier},
        {"send_id": recipient.send_id, **address, **properties},
    )


def is_topic(choice: Choice) -> bool:
    """Whether it is about what messages say, wherever they come."""
    return choice.purpose != "marketing"
