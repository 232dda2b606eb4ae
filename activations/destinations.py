"""Which destination each channel has, as `destinations.yml` says.

Opens none of them: that takes settings, which the caller has.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml

from activations.parts import nearest
from activations.reading import keys_twice, read_text
from activations.registry import CHANNELS

DESTINATIONS = Path(__file__).parent / "destinations.yml"
NAMES = ("smtp", "file", "none")


class DestinationsError(ValueError):
    """The file cannot be used; in one line, with the mend."""


def read_destinations(path: Path = DESTINATIONS) -> Mapping[str, str]:
    """Returns the name of the destination of each channel; `none` for nowhere.

    A channel that the file does not name goes nowhere.

    Raises:
        DestinationsError: naming a channel that is unknown or goes where it cannot.
    """
    try:
        text = read_text(path)
        twice = [str(location[-1]) for location, *_ in keys_twice(yaml.compose(text))]
        stated = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        said = " ".join(str(error).split())
        raise DestinationsError(f"{path.name} cannot be read: {said}") from None
    if not isinstance(stated, dict):
        raise DestinationsError(f"{path.name}: expected channels, as `email: smtp`")
    problems = [f"{channel}: is there twice" for channel in twice]
    problems += [
        f"{channel}: there is no such channel; {nearest(str(channel), list(CHANNELS))}"
        for channel in stated
        if channel not in CHANNELS
    ]
    named = {channel: stated.get(channel) or "none" for channel in CHANNELS}
    for channel, name in named.items():
        if name not in NAMES:
            problems.append(f"{channel}: {name} is none of {', '.join(NAMES)}")
        elif name == "smtp" and channel != "email":
            problems.append(f"{channel}: smtp takes email alone")
    if problems:
        raise DestinationsError("; ".join(f"{path.name}: {line}" for line in problems))
    return named
