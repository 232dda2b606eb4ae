"""The channels that there are, as the seed `channel_rules` lists them.

It says what a message on each is made of; when and to whom it may go is decided in SQL.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

SEED = Path(__file__).parents[1] / "dbt_project" / "seeds" / "channel_rules.csv"

AddressType = Literal[
    "email",
    "phone",
    "device_token",
    "app_user",
    "web_user",
    "ad_identity",
    "postal_address",
]
MessageForm = Literal["email", "sms", "card", "letter"]


@dataclass(frozen=True)
class ChannelRule:
    """A channel: what an address on it is, and the form of its messages.

    `fields` stand above the body of a content file. `maximum_length` is in segments for
    an SMS, in bytes for others.
    """

    channel: str
    address_type: AddressType
    message_form: MessageForm
    fields: tuple[str, ...]
    maximum_length: int | None


class RegistryError(ValueError):
    """A channel of the registry that cannot be used; in one line, with the mend."""


def read_channels(path: Path = SEED) -> Mapping[str, ChannelRule]:
    """The channels by name, in the order of the file.

    Raises:
        RegistryError: naming the channel and the column.
    """
    channels: dict[str, ChannelRule] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name, fields = row["channel"], tuple(row["fields"].split("|"))
            for column, known in (
                ("address_type", get_args(AddressType)),
                ("message_form", get_args(MessageForm)),
            ):
                if row[column] not in known:
                    raise RegistryError(
                        f"{path.name}, {name}: {column} is one of {', '.join(known)}"
                    )
            if name in channels:
                raise RegistryError(f"{path.name}, {name}: is there twice; keep one")
            if "link" not in fields:
                raise RegistryError(f"{path.name}, {name}: fields need a link")
            length = row["maximum_length"]
            if length and not length.isdecimal():
                raise RegistryError(
                    f"{path.name}, {name}: maximum_length is a whole number, or empty"
                )
            channels[name] = ChannelRule(
                name,
                row["address_type"],  # type: ignore[arg-type]
                row["message_form"],  # type: ignore[arg-type]
                fields,
                int(length) if length else None,
            )
    return channels


CHANNELS = read_channels()
