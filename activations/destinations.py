"""Which destination each channel has, as `destinations.yml` says, with its options.

Opens none of them: that takes settings and secrets, which the caller has.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import yaml
from pydantic import ValidationError

from activations.channels.braze import BrazeEmailOptions, BrazeOptions
from activations.channels.customerio import CustomerIoOptions
from activations.channels.fcm import FcmOptions
from activations.channels.file import FileOptions
from activations.channels.klaviyo import KlaviyoOptions
from activations.channels.onesignal import OneSignalOptions
from activations.channels.options import CredentialError, Options, Surroundings
from activations.channels.sendgrid import SendGridOptions
from activations.channels.smtp import SmtpOptions
from activations.channels.twilio import TwilioOptions
from activations.channels.webhook import WebhookOptions
from activations.parts import nearest
from activations.reading import compose, keys_twice, read_text
from activations.registry import CHANNELS

DESTINATIONS = Path(__file__).parent / "destinations.yml"
KINDS: Mapping[str, type[Options]] = {
    get_args(kind.model_fields["destination"].annotation)[0]: kind
    for kind in (
        SmtpOptions,
        FileOptions,
        WebhookOptions,
        TwilioOptions,
        SendGridOptions,
        KlaviyoOptions,
        FcmOptions,
        BrazeOptions,
        BrazeEmailOptions,
        CustomerIoOptions,
        OneSignalOptions,
    )
}
NAMES = (*KINDS, "none")


class DestinationsError(ValueError):
    """The file cannot be used; in one line, with the mend."""


def read_destinations(path: Path = DESTINATIONS) -> Mapping[str, Options]:
    """Returns the destination of each channel that has one, with its options.

    Raises:
        DestinationsError: naming each mistake by channel and option, with its mend.
    """
    try:
        text = read_text(path)
        twice = [".".join(map(str, where)) for where, *_ in keys_twice(compose(text))]
        stated = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        said = " ".join(str(error).split())
        raise DestinationsError(f"{path.name} cannot be read: {said}") from None
    if not isinstance(stated, dict):
        raise DestinationsError(f"{path.name}: expected channels, as `email: smtp`")
    problems = [f"{place}: is there twice" for place in twice]
    found: dict[str, Options] = {}
    for channel, written in stated.items():
        if channel not in CHANNELS:
            reason = f"there is no such channel; {nearest(channel, list(CHANNELS))}"
            problems.append(f"{channel}: {reason}")
            continue
        line = written if isinstance(written, dict) else {"destination": written}
        name = line.get("destination") or "none"
        if name == "none":
            continue
        kind = KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            problems.append(f"{channel}: {name} is none of {', '.join(NAMES)}")
        elif not kind.is_for(CHANNELS[channel]):
            problems.append(f"{channel}: {name} takes {kind.takes} alone")
        else:
            try:
                found[channel] = kind.model_validate(line)
            except ValidationError as error:
                problems += explain(channel, kind, error)
    if problems:
        raise DestinationsError("; ".join(f"{path.name}: {line}" for line in problems))
    return found


def explain(channel: str, kind: type[Options], error: ValidationError) -> Iterator[str]:
    """Each mistake in a line of options; never a value, which may be a secret."""
    for problem in error.errors(
        include_url=False, include_input=False, include_context=False
    ):
        location = [str(part) for part in problem["loc"]]
        place = ".".join((channel, *location))
        field = kind.model_fields.get(location[0]) if location else None
        if problem["type"] == "extra_forbidden":
            others = list(kind.model_fields) if len(location) == 1 else ["env", "file"]
            yield f"{place}: there is no such option; {nearest(location[-1], others)}"
            continue
        is_missing = problem["type"] == "missing"
        reason = problem["msg"].removeprefix("Value error, ")
        reason = "is missing; add it" if is_missing else reason
        if field is None or not field.examples:
            yield f"{place}: {reason}"
        else:
            yield f"{place}: {reason} ({field.description}, e.g. {field.examples[0]})"


def require_secrets(
    destinations: Mapping[str, Options], surroundings: Surroundings
) -> None:
    """Look for every secret where the options say that it is.

    Raises:
        DestinationsError: naming each that is not there, by channel and option.
    """
    problems = []
    for channel, options in destinations.items():
        for name, place in options.places():
            try:
                place.read(surroundings)
            except CredentialError as error:
                problems.append(f"{DESTINATIONS.name}: {channel}.{name}: {error}")
    if problems:
        raise DestinationsError("; ".join(problems))
