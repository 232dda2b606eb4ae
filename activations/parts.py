"""The small parts of authors' files: names, durations, numbers, phases."""

import re
from collections.abc import Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from activations.registry import CHANNELS

if TYPE_CHECKING:
    Channel = str
else:
    Channel = Literal[tuple(CHANNELS)]
Phase = Literal[
    "reintroduction",
    "value",
    "social_proof",
    "action",
    "relationship",
    "restoration",
    "advocacy",
]
Intent = Literal[
    "browsing",
    "considering",
    "price_checking",
    "cart_abandoned",
    "checkout_abandoned",
    "converted",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
# Where something stands in a file: fields and, in lists, numbers.
Location = tuple[int | str, ...]
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
# No table of moments holds much more, and no customer waits as long.
LONGEST = timedelta(days=3653)
MOST = 1_000_000
READABLE_COUNT = 40


def parse_duration(value: object) -> timedelta:
    """Turn `30m`, `4h` or `2d` into a timedelta; leave anything else to pydantic."""
    if not isinstance(value, str):
        raise ValueError("write a duration as 30m, 4h or 2d")
    written = re.fullmatch(r"(\d+)([mhd])", value)
    if written is None:
        raise ValueError(f"'{value}' is no duration; write 30m, 4h or 2d")
    try:
        duration = timedelta(**{UNITS[written[2]]: int(written[1])})
    except OverflowError:
        duration = timedelta.max
    if duration > LONGEST:
        raise ValueError(f"{value} is longer than ten years; write a shorter one")
    return duration


def duration_text(duration: timedelta) -> str:
    """A duration as authors write it."""
    for unit, name in (("d", "days"), ("h", "hours")):
        count = duration / timedelta(**{name: 1})
        if count == int(count):
            return f"{int(count)}{unit}"
    return f"{int(duration / timedelta(minutes=1))}m"


def refuse_yes(value: object) -> object:
    """Keep YAML's `yes` and `on` from being taken for the number 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not yes or no")
    return value


WrittenDuration = Annotated[str, Field(pattern=r"^[0-9]+[mhd]$")]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=WrittenDuration),
]
FORMS = {
    r"^[a-z][a-z0-9_]*$": "a name is of a-z, 0-9 and _ and begins with a letter",
    r"^[A-Z0-9]+$": "a code is of A-Z and 0-9",
    r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$": "a property is of letters, digits, _ and dots",
    r"^[a-z][a-z0-9_]*:\s*\S.*$": "an identifier is written like user_id:123",
}
NAME_FORM, CODE_FORM, PROPERTY_FORM, IDENTIFIER_FORM = FORMS
Name = Annotated[str, Field(pattern=NAME_FORM)]
Count = Annotated[int, BeforeValidator(refuse_yes), Field(le=MOST)]
Rate = Annotated[float, BeforeValidator(refuse_yes), Field(ge=0, le=1)]


class Part(BaseModel):
    """A piece of an author's file; an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def nearest(word: object, words: Sequence[str]) -> str:
    """The mend of a word that does not exist: the one that was meant, and all.

    Of more words than anybody reads, only the one that was meant.
    """
    close = get_close_matches(str(word), words, n=1, cutoff=0.65)
    if close and len(words) > READABLE_COUNT:
        return f"did you mean {close[0]}?"
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}it is one of {', '.join(words)}"
