"""A send and its content file as the finished message, or no message at all.

Liquid decides the words, MJML the look of emails. A variable that is missing, null or
empty is an error wherever it is printed; it never leaves a gap in a sentence.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import cached_property, wraps
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import mrml
import yaml
from liquid import Environment, FalsyStrictUndefined, RenderContext
from liquid.exceptions import LiquidError, ResourceLimitError, UndefinedError
from liquid.filter import with_context
from liquid.template import BoundTemplate
from liquid.undefined import is_undefined
from markupsafe import Markup

from activations.ledger import Send
from activations.links import Links
from activations.parts import nearest
from activations.reading import compose, keys_twice, read_text
from activations.registry import CHANNELS, ChannelRule

CONTENT = Path(__file__).parent / "content"
NAME = re.compile(r"[a-z][a-z0-9_]*")
FRONT_MATTER = re.compile(r"\A---\n(.*?)^---\n(.*)\Z", re.DOTALL | re.MULTILINE)

# Forms of which somebody may type the link off.
TYPED_OFF = ("sms", "letter")
# What `tracked` adds itself; written by an author too, it would be in a link twice.
OWN_TRACKING = re.compile(r"\b(utm_\w+|send_id)=")
# Control characters, and those that turn the direction of all that follows them: no
# name has them, and some destinations refuse or misread a message that does.
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
WITHOUT_MINOR_UNIT = {"JPY", "KRW", "CLP"}

# GSM 03.38: what an SMS of 160 characters may hold; the second row counts twice.
GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENDED = frozenset("^{}\\[~]|€\f")


class ContentError(Exception):
    """A content file that cannot be used for anyone."""

    def __init__(
        self, file: str, reason: str, *, line: int | None = None, field: str = "file"
    ) -> None:
        super().__init__(
            f"{file}:{'' if line is None else f'{line}:'} {field}: {reason}"
        )
        self.file = file
        self.reason = reason
        self.line = line
        self.field = field


class RenderError(Exception):
    """A message that cannot be made for this person; says the file, never a value."""


class GapError(RenderError):
    """A word is missing for this person where it would be printed."""


@dataclass(frozen=True)
class Message:
    """A finished message; `fields` are what its channel shows."""

    send_id: str
    channel: str
    address: str
    content_id: str
    as_of: datetime
    fields: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Message({self.send_id}, {self.content_id})"

    def to_json(self) -> str:
        """All of it in one line, from which `from_json` makes an equal message."""
        values = {**vars(self), "as_of": self.as_of.isoformat()}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The message that `to_json` wrote down."""
        values = json.loads(text)
        return cls(**{**values, "as_of": datetime.fromisoformat(values["as_of"])})


class Missing(FalsyStrictUndefined):
    """False in a condition, filled by `default`, an error anywhere else."""

    force_liquid_default = True


@dataclass(frozen=True)
class Text:
    """One field of a content file, as written and as parsed."""

    written: str
    first_line: int
    template: BoundTemplate

    def line(self, index: int) -> int:
        """The line of the file at `index` of what is written."""
        return self.first_line + self.written.count("\n", 0, index)


# What a content file says of itself, and no message shows.
OWNER, VALID_UNTIL = "owner", "valid_until"
DATES = ("reviewed_on", VALID_UNTIL)


@dataclass(frozen=True)
class Template:
    """One content file: its fields and its body, and the last day on which it is true.

    `valid_until` comes with the line on which it stands.
    """

    name: str
    fields: Mapping[str, Text]
    valid_until: tuple[date, int] | None = None


class Renderer:
    """Renders sends from a content folder for one shop.

    With `needs_postal_address` no marketing email is without one.
    """

    def __init__(
        self,
        *,
        shop_url: str,
        links: Links,
        currency: str,
        content: Path = CONTENT,
        needs_postal_address: bool = False,
    ) -> None:
        self._content = content
        self._links = links
        self._needs_postal_address = needs_postal_address
        self._shop_url = shop_url.rstrip("/")
        self._currency = currency
        self._templates: dict[str, Template] = {}
        self._plain = make_environment(autoescape=False)
        self._escaping = make_environment(autoescape=True)

    @property
    def brand(self) -> Mapping[str, Any]:
        """Who speaks: name, promises, postal address and look, from `brand.yml`.

        Raises:
            ContentError: if the file cannot be used.
        """
        if isinstance(self._brand, ContentError):
            raise self._brand
        return self._brand

    @cached_property
    def _brand(self) -> Mapping[str, Any] | ContentError:
        path = self._content / "brand.yml"
        try:
            text = read_text(path)
            twice = next(keys_twice(compose(text)), None)
            brand = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else None
            said = ", ".join(filter(None, (error.context, error.problem)))
            return ContentError(path.name, in_one_line(said), line=line)
        except (yaml.YAMLError, ValueError, OSError) as error:
            return ContentError(path.name, in_one_line(error))
        if twice:
            (field, *_), line, reason = twice
            return ContentError(path.name, reason, line=line, field=str(field))
        if not isinstance(brand, dict):
            return ContentError(path.name, "expected fields, as `name: The Shop`")
        return brand

    def template(self, journey: str, content_id: str, channel: str) -> Template:
        """The parsed content file of a channel, read once.

        Raises:
            ContentError: if it is missing, of the wrong form or not valid Liquid.
        """
        name = f"{journey}/{content_id}.{channel}.liquid"
        if name not in self._templates:
            if not (NAME.fullmatch(journey) and NAME.fullmatch(content_id)):
                raise ContentError(name, "names are of a-z, 0-9 and _")
            if channel not in CHANNELS:
                raise ContentError(name, f"there is no channel {channel}")
            self._templates[name] = self._load(name, channel)
        return self._templates[name]

    def _load(self, name: str, channel: str) -> Template:
        match = FRONT_MATTER.match(self._read(name))
        if match is None:
            raise ContentError(name, "expected fields between two lines of ---")
        head, body = match.groups()
        try:
            root = compose(head)
            twice = next(keys_twice(root), None)
            fields = yaml.safe_load(head)
        except (yaml.YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 2 if mark else None
            said = in_one_line(getattr(error, "problem", error))
            reason = f"{said}; words with a colon or braces stand in quotes"
            raise ContentError(name, reason, line=line) from None
        if twice:
            (field, *_), line, reason = twice
            raise ContentError(name, reason, line=line + 1, field=str(field))
        if not isinstance(fields, dict) or not isinstance(root, yaml.MappingNode):
            raise ContentError(name, "expected fields, as `link: /cart`")
        lines = {key.value: key.start_mark.line + 2 for key, _ in root.value}
        expected = CHANNELS[channel].fields
        for field in fields:
            line, value = lines.get(field), fields[field]
            if field in DATES and type(value) is not date:
                reason = "expected a day, as 2026-12-31"
                raise ContentError(name, reason, line=line, field=field)
            if field == OWNER and not (isinstance(value, str) and value.strip()):
                reason = "expected who answers for it, as lifecycle@shop.example"
                raise ContentError(name, reason, line=line, field=field)
            if field not in (*expected, *DATES, OWNER):
                words = [*expected, *DATES, OWNER]
                reason = f"there is no such field; {nearest(field, words)}"
                raise ContentError(name, reason, line=line, field=str(field))
        written = {key.value: value for key, value in root.value}
        for field in expected:
            line = lines.get(field)
            if fields.get(field) in (None, ""):
                raise ContentError(name, "is missing; add it", line=line, field=field)
            if not isinstance(written[field], yaml.ScalarNode):
                reason = "expected words; write them in quotes"
                raise ContentError(name, reason, line=line, field=field)
        # keeps the line numbers of errors those of the file
        body = "\n" * (head.count("\n") + 2) + body
        is_html = CHANNELS[channel].message_form == "email"
        escaping = self._escaping if is_html else self._plain
        return Template(
            name,
            {
                **{
                    field: self._parse(
                        # as it is written: YAML reads Yes as true, and 1.50 as 1.5
                        written[field].value,
                        name,
                        field,
                        self._plain,
                        lines[field],
                    )
                    for field in expected
                },
                "body": self._parse(body, name, "body", escaping),
            },
            valid_until=(
                (fields[VALID_UNTIL], lines[VALID_UNTIL])
                if VALID_UNTIL in fields
                else None
            ),
        )

    def _read(self, name: str) -> str:
        try:
            return read_text(self._content / name)
        except FileNotFoundError:
            raise ContentError(name, self._no_such_file(name)) from None
        except (OSError, ValueError) as error:
            raise ContentError(name, in_one_line(error)) from None

    def _no_such_file(self, name: str) -> str:
        """What to do about a file that is not there: its name may be misspelt."""
        path = self._content / name
        others = sorted(other.name for other in path.parent.glob("*.liquid"))
        close = get_close_matches(path.name, others, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        return f"no such content file; write it, or mend the name in the journey{meant}"

    def _parse(
        self,
        text: str,
        name: str,
        field: str,
        environment: Environment,
        first_line: int = 1,
    ) -> Text:
        shown = name if field == "body" else f"{name} ({field})"
        try:
            template = environment.from_string(text, name=shown)
        except LiquidError as error:
            line = line_of(error)
            line = line and first_line + line - 1
            said = in_one_line(error.message)
            raise ContentError(name, said, line=line, field=field) from None
        return Text(text, first_line, template)

    def render(self, send: Send) -> Message:
        """The message for one person.

        Raises:
            ContentError: if the content file cannot be used.
            RenderError: if what it prints is missing, or the message too long.
        """
        template = self.template(send.journey, send.content_id, send.channel)
        rule = CHANNELS[send.channel]
        if not send.address:
            raise RenderError("no address")
        context = self.context(send)
        fields = {
            name: " ".join(fill(template.fields[name], context).split())
            for name in rule.fields
        }
        fields["link"] = self._tracked(fields["link"], send)
        context["link"] = fields["link"]
        body = fill(template.fields["body"], context).strip()
        for name, text in {**fields, "body": body}.items():
            if not text:
                raise RenderError(f"{template.name}: {name} is empty")
        if rule.message_form == "email":
            fields |= self._email(send, body, {**context, **fields})
        elif rule.message_form == "sms":
            fields |= self._sms(body, context)
        else:
            is_card = rule.message_form == "card"
            fields["body"] = " ".join(body.split()) if is_card else body
        check_length(send, rule, fields)
        return Message(
            send_id=send.send_id,
            channel=send.channel,
            address=send.address,
            content_id=send.content_id,
            as_of=send.as_of,
            fields=fields,
        )

    def context(self, send: Send) -> dict[str, Any]:
        """The words that a content file may use in this message.

        Raises:
            RenderError: if the payload is no JSON object.
        """
        try:
            payload = json.loads(send.payload or "{}")
        except ValueError:
            raise RenderError("the payload is no JSON") from None
        if not isinstance(payload, dict):
            raise RenderError("the payload is no object")
        return {
            "currency": self._currency,
            **present(payload),
            "send_id": send.send_id,
            "journey": send.journey,
            "step": send.step,
            "channel": send.channel,
            "message_class": send.message_class,
            "brand": self.brand,
            "tracked": lambda path: self._tracked(path, send),
        }

    def _tracked(self, path: str, send: Send) -> str:
        """A link that says which send it came from."""
        url = path if path.startswith("https://") else f"{self._shop_url}{path}"
        if not path.startswith(("/", "https://")):
            raise RenderError(f"{send.content_id}: a link begins with / or https://")
        if OWN_TRACKING.search(path):
            raise RenderError(f"{send.content_id}: a link is tracked by itself")
        tracking = {
            "utm_source": "rekindle",
            "utm_medium": send.channel,
            "utm_campaign": send.journey,
            "utm_content": send.step,
            "send_id": send.send_id,
        }
        if CHANNELS[send.channel].message_form in TYPED_OFF:
            tracking = {"send_id": send.send_id}
        return f"{url}{'&' if '?' in url else '?'}{urlencode(tracking)}"

    def _email(
        self, send: Send, body: str, context: Mapping[str, Any]
    ) -> dict[str, str]:
        is_marketing = send.message_class == "marketing"
        unsubscribe = self._links.unsubscribe(send)
        own_links = {
            "unsubscribe_link": unsubscribe,
            "preferences_link": self._links.preferences(send),
        }
        layout = self.layout("email")
        mjml = fill(
            layout,
            {
                **context,
                "content": Markup(body),
                **(own_links if is_marketing else {}),
            },
        )
        try:
            html = mrml.to_html(mjml).content
        except OSError as error:
            raise RenderError(f"{send.content_id}: MJML: {error}") from None
        fields = {"html": html, "text": as_text(mjml)}
        if is_marketing:
            if Markup.escape(unsubscribe) not in html:
                raise ContentError(
                    "_layout.email.liquid", "no unsubscribe_link", field="body"
                )
            fields["unsubscribe_link"] = unsubscribe
            postal_address = str(self.brand.get("postal_address") or "").strip()
            if self._needs_postal_address and not postal_address:
                reason = "is missing; marketing needs it where messages go out"
                raise ContentError("brand.yml", reason, field="postal_address")
            if self._needs_postal_address and Markup.escape(postal_address) not in html:
                raise ContentError(
                    "_layout.email.liquid", "no brand.postal_address", field="body"
                )
        return fields

    def _sms(self, body: str, context: Mapping[str, Any]) -> dict[str, str]:
        layout = self.layout("sms")
        text = " ".join(fill(layout, {**context, "content": body}).split())
        return {"body": text, "segments": str(sms_segments(text))}

    def layout(self, message_form: str) -> Text:
        """The frame of an email, a text or a page.

        Raises:
            ContentError: if it is missing or not valid Liquid.
        """
        name = f"_layout.{message_form}.liquid"
        if name not in self._templates:
            escaping = self._plain if message_form == "sms" else self._escaping
            body = self._parse(self._read(name), name, "body", escaping)
            self._templates[name] = Template(name, {"body": body})
        return self._templates[name].fields["body"]


class Limited(Environment):
    """Liquid that ends: a slip in a loop must not keep every other message waiting."""

    loop_iteration_limit = 10_000
    local_namespace_limit = 1_000_000
    output_stream_limit = 1_000_000


def make_environment(*, autoescape: bool) -> Environment:
    """Strict Liquid: unknown filters, loose syntax and missing variables are errors."""
    environment = Limited(undefined=Missing, autoescape=autoescape)
    environment.filters |= {
        "money": money,
        "local_date": local_date,
        "tracked": tracked,
        "path_part": path_part,
    }
    for name, function in environment.filters.items():
        if name != "default":
            environment.filters[name] = refuse_missing(function)
    return environment


def refuse_missing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a filter fail on a missing value; Liquid's own turn it into nothing."""

    @wraps(function)
    def strict(value: object, *arguments: object, **keywords: object) -> object:
        if is_undefined(value):
            str(value)
        return function(value, *arguments, **keywords)

    return strict


@with_context
def money(value: object, *, context: RenderContext) -> str:
    """`12.5` as `$12.50`, in the currency of the message, else the shop's."""
    currency = str(context.resolve("currency"))
    places = 0 if currency in WITHOUT_MINOR_UNIT else 2
    try:
        amount = f"{Decimal(str(value)):,.{places}f}"
    except InvalidOperation:
        raise UndefinedError("money: not a number", token=None) from None
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{amount}" if symbol else f"{amount} {currency}"


@with_context
def local_date(value: object, pattern: str, *, context: RenderContext) -> str:
    """A UTC moment as the person's own day and hour, by their `timezone`."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise UndefinedError("local_date: not a moment", token=None) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    zone = context.resolve("timezone")
    try:
        local = moment.astimezone(ZoneInfo(str(zone)) if zone else UTC)
    except (KeyError, ValueError):
        # devices report all sorts of zones; one that nobody knows counts as none
        local = moment.astimezone(UTC)
    return local.strftime(pattern)


@with_context
def tracked(value: object, *, context: RenderContext) -> str:
    """A path of the shop as a link that says which send it came from."""
    make_link: Any = context.resolve("tracked")
    return str(make_link(str(value)))


def path_part(value: object) -> str:
    """A value as one safe part of a path."""
    return quote(str(value), safe="")


def fill(text: Text, context: Mapping[str, Any]) -> str:
    """What is written, with its words filled in.

    Raises:
        RenderError: if something that it prints is missing.
    """
    template = text.template
    try:
        return template.render(**context)
    except UndefinedError as error:
        name = str(template.name)
        raise GapError(f"{place(error, name)} {error.message}") from None
    except ResourceLimitError as error:
        raise RenderError(
            f"{place(error, str(template.name))} {error.message}"
        ) from None
    except LiquidError as error:
        # other messages of Liquid may quote values, and so a person
        kind = type(error).__name__
        raise RenderError(f"{place(error, str(template.name))} {kind}") from None


def place(error: LiquidError, name: str) -> str:
    """`file:line` of a Liquid error."""
    line = line_of(error)
    return f"{name}:" if line is None else f"{name}:{line}:"


def line_of(error: LiquidError) -> int | None:
    """The line of the text in which a Liquid error is."""
    if error.token is None or error.token.start_index < 0:
        return None
    return error.token.source.count("\n", 0, error.token.start_index) + 1


def in_one_line(said: object) -> str:
    """What a library said of a file, for a table or a terminal."""
    return " ".join(str(said).split())


def present(value: Any) -> Any:
    """A payload without what is null or empty, so that it counts as missing."""
    if isinstance(value, dict):
        kept = {key: present(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, "", [])}
    if isinstance(value, list):
        return [present(item) for item in value if item is not None]
    return UNSEEN.sub("", value).strip() if isinstance(value, str) else value


def check_length(send: Send, rule: ChannelRule, fields: Mapping[str, str]) -> None:
    """Refuse what the channel's services would.

    Those of push take 4 KB, of which half is theirs.
    """
    if rule.message_form == "sms":
        unit, length = "SMS segments", int(fields["segments"])
    else:
        unit, length = "bytes", sum(len(text.encode()) for text in fields.values())
    if rule.maximum_length is not None and length > rule.maximum_length:
        raise RenderError(
            f"{send.content_id}: {length} {unit} are too many for {send.channel}"
        )


def sms_segments(text: str) -> int:
    """How many SMS a text takes: 160 GSM characters or 70 others, less when joined."""
    if set(text) <= GSM_BASIC | GSM_EXTENDED:
        length = len(text) + sum(character in GSM_EXTENDED for character in text)
        alone, joined = 160, 153
    else:
        length = len(text.encode("utf-16-be")) // 2
        alone, joined = 70, 67
    return 1 if length <= alone else -(-length // joined)


class TextOfMjml(HTMLParser):
    """Collects the text part of an email from its MJML: all words that it shows."""

    BLOCKS = frozenset(
        {"p", "div", "ul", "ol", "li", "table", "tr", "blockquote", "br", "hr"}
        | {f"h{level}" for level in range(1, 7)}
    )
    LINKS = frozenset(
        {"a", "mj-button", "mj-image", "mj-social-element", "mj-navbar-link"}
    )
    NOT_SHOWN = frozenset({"mj-head", "style", "script"})
    ENDS_PARAGRAPH = BLOCKS - {"br", "div", "ul", "ol", "table"}

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self._line = ""
        self._links: list[str | None] = []
        self._not_shown = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open what hides text, starts a line, leads somewhere or is a picture."""
        self._not_shown += tag in self.NOT_SHOWN
        if tag in self.BLOCKS or tag.startswith("mj-"):
            self._end_line()
        if tag == "li":
            self._line = "- "
        if tag in self.LINKS:
            self._links.append(dict(attrs).get("href"))
        if tag in ("img", "mj-image"):
            self._line += f" {dict(attrs).get('alt') or ''} "

    def handle_endtag(self, tag: str) -> None:
        """Close it, and write a link after its words."""
        self._not_shown -= tag in self.NOT_SHOWN
        if tag in self.LINKS and self._links:
            link = self._links.pop()
            self._line += f" ({link})" if link else ""
        if tag in ("td", "th"):
            self._line += " "
        if tag in self.BLOCKS or tag.startswith("mj-"):
            self._end_line()
        if tag in self.ENDS_PARAGRAPH or tag.startswith("mj-"):
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        """Take the words that readers see."""
        if not self._not_shown:
            self._line += re.sub(r"\s+", " ", data)

    def close(self) -> None:
        """End the last line too."""
        super().close()
        self._end_line()

    def _end_line(self) -> None:
        if self._line.strip() not in ("", "-"):
            self.lines.append(" ".join(self._line.split()))
        self._line = ""


def as_text(mjml: str) -> str:
    """The words and links of an email for readers without HTML."""
    parser = TextOfMjml()
    parser.feed(mjml)
    parser.close()
    text = "\n".join(parser.lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
