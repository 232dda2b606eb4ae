"""The pages behind a link of a message: to unsubscribe, and to choose what comes.

A page changes nothing until its button is pressed: mail gateways follow links, too. It
shows what may be chosen, not what was: a message that was passed on tells nobody more
than it already does. Whoever follows a link has the address that it was sent to, and so
may say no to everything, and yes there.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from activations.blueprint import read_journeys
from activations.links import PREFERENCES, UNSUBSCRIBE, Links, Recipient
from activations.reading import AuthoredError
from activations.registry import CHANNELS
from activations.render import CONTENT, ContentError, Renderer, RenderError, fill
from orchestration.settings import Settings
from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import track

EVERYTHING = "everything"
ANSWERS = ("granted", "denied")
ALL_CHANNELS = "all"


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
                "choices": [vars(choice) for choice in self.choices(recipient)],
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
        try:
            journeys, _ = read_journeys(self._settings.journeys)
        except AuthoredError:
            return []
        return sorted(
            {
                journey.purpose
                for journey in journeys
                if journey.purpose and journey.message_class == "marketing"
            }
            - {"marketing"}
        )

    def _fill(self, words: Mapping[str, object]) -> str:
        """The brand's own frame, else the shipped one: a page has to come."""
        own, shipped = self._renderers
        try:
            return fill(own.layout("page"), {**words, "brand": own.brand})
        except (ContentError, RenderError):
            return fill(shipped.layout("page"), {**words, "brand": {}})


def opt_out(recipient: Recipient) -> Line:
    """The line by which a recipient wants no more offers on that channel."""
    event, said = ("Channel Consent Updated", REFUSAL)
    if recipient.channel == "email":
        event, said = ("Unsubscribed", {})
    return track(
        event,
        f"unsubscribed-{recipient.send_id}-{secrets.token_hex(8)}",
        who(recipient),
        {**about(recipient), "channel": recipient.channel, **said},
    )


def chosen(recipient: Recipient, choices: list[Choice], body: bytes) -> list[Line]:
    """The lines of what somebody chose; what they left as it is has none."""
    form = dict(parse_qsl(body.decode(errors="replace")))
    stated = [
        (
            ALL_CHANNELS
            if form[choice.name] == "denied" and is_topic(choice)
            # a topic that is asked for is asked for where the page was
            else choice.channel,
            choice.purpose,
            form[choice.name],
        )
        for choice in choices
        if form.get(choice.name) in ANSWERS
        and (choice.may_grant or form[choice.name] == "denied")
    ]
    if EVERYTHING in form:
        stated = [(ALL_CHANNELS, "marketing", "denied")]
    occasion = secrets.token_hex(8)
    return [
        track(
            "Channel Consent Updated",
            f"preferences-{recipient.send_id}-{occasion}-{number}",
            who(recipient),
            {
                **about(recipient),
                **REFUSAL,
                "channel": channel,
                "purpose": purpose,
                "status": status,
            },
        )
        for number, (channel, purpose, status) in enumerate(stated)
    ]


REFUSAL = {
    "purpose": "marketing",
    "status": "denied",
    "lawful_basis": "consent",
    "policy_version": "link",
}


def is_topic(choice: Choice) -> bool:
    """Whether it is about what messages say, wherever they come."""
    return choice.purpose != "marketing"


def who(recipient: Recipient) -> dict[str, str]:
    """A recipient as the person of a line, as the receipts of sends have it."""
    is_user = recipient.identifier_type == "user_id"
    return {"userId" if is_user else "anonymousId": recipient.identifier}


def about(recipient: Recipient) -> dict[str, str]:
    """What else is known of a recipient: the message, and an address of theirs."""
    address = {
        kind: recipient.identifier
        for kind in ("email", "phone")
        if recipient.identifier_type == kind
    }
    return {"send_id": recipient.send_id, **address}
