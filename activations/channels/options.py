"""What a line of `destinations.yml` may say, whatever the destination.

A secret is named there and never held: by an environment variable, or by a file.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from activations.channels import Destination
from activations.parts import Part
from activations.registry import ChannelRule

if TYPE_CHECKING:
    from activations.channels.smtp import SmtpServer

PRINTABLE = re.compile(r"[\x20-\x7e]+")


class CredentialError(ValueError):
    """A secret that is not where the options say; the message names the place."""


@dataclass(frozen=True)
class Surroundings:
    """What a destination is opened with besides its own options."""

    outbox: Path
    email_from: str
    smtp: "SmtpServer | None"
    environment: Mapping[str, str]
    clock: Callable[[], datetime]

    def __repr__(self) -> str:
        return f"Surroundings({self.outbox})"


class Place(Part):
    """Where a secret is: an environment variable, or a file of its own."""

    env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    file: Path | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Place":
        if (self.env is None) == (self.file is None):
            raise ValueError("write either env or file")
        return self

    def read(self, surroundings: Surroundings) -> SecretStr:
        """The secret.

        Raises:
            CredentialError: naming the variable or the file without one.
        """
        if self.file is not None:
            try:
                text = self.file.expanduser().read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise CredentialError(f"{self.file} cannot be read") from None
        else:
            text = surroundings.environment.get(self.env or "", "").strip()
        if not text:
            raise CredentialError(
                f"{self.file} is empty" if self.file else f"{self.env} is not set"
            )
        return SecretStr(text)

    def read_header(self, surroundings: Surroundings) -> str:
        """The secret as a header can carry it.

        Raises:
            CredentialError: naming the variable or the file without one.
        """
        text = self.read(surroundings).get_secret_value()
        if not PRINTABLE.fullmatch(text):
            raise CredentialError(
                f"{self.file or self.env} has other characters than printable ASCII"
            )
        return text


def refuse_secret(value: object) -> object:
    """Keep a secret itself from standing in a file that is shared."""
    if not isinstance(value, Mapping | Place):
        raise ValueError(
            "name the place of the secret, as {env: NAME} or {file: /path}; "
            "it is never written here"
        )
    return value


def refuse_open_url(value: str) -> str:
    """Take an address that is spoken to encrypted, or one on this machine."""
    parts = urlsplit(value)
    host = parts.hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    if not host or parts.scheme not in ("https", *(["http"] if is_here else [])):
        raise ValueError("is no https:// address")
    if "@" in parts.netloc:
        raise ValueError("holds a login; name secrets apart")
    return value.rstrip("/")


Credential = Annotated[Place, BeforeValidator(refuse_secret)]
Url = Annotated[str, AfterValidator(refuse_open_url)]


class Options(Part):
    """One destination of one channel."""

    takes: ClassVar[str]
    """The channels that it takes, in words."""

    destination: str

    @classmethod
    @abstractmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Whether messages of a channel can go there."""

    @abstractmethod
    def open(self, surroundings: Surroundings) -> Destination:
        """The destination, ready to be sent to.

        Raises:
            CredentialError: naming a secret that is not in its place.
        """

    def places(self) -> Iterator[tuple[str, Place]]:
        """Where its secrets are, by the option that names each."""
        for name, value in self:
            for place in value if isinstance(value, tuple) else (value,):
                if isinstance(place, Place):
                    yield name, place
