"""Where messages go: one module per destination, all behind `Destination`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from activations.ledger import Outcome, Send
from activations.registry import CHANNELS as CHANNELS
from activations.render import Message


@dataclass(frozen=True)
class DeliveryClass:
    """What can be done about a message that a destination may or may not have taken.

    - `set`: a repeat changes nothing, whenever it comes;
    - `key`: a repeat of the same message changes nothing, for as long as `within`, or
      ever where there is none;
    - `look_up`: the destination answers whether it has it, `grace` after the attempt
      and for as long as `within`;
    - `blind`: nothing: it is `unknown` and never tried again.
    """

    kind: Literal["set", "key", "look_up", "blind"]
    within: timedelta | None = None
    grace: timedelta = timedelta(0)

    @property
    def repeats(self) -> bool:
        """Whether a message in doubt is sent once more."""
        return self.kind in ("set", "key")

    @property
    def freezes(self) -> bool:
        """Whether it takes the message as it was sent to resolve a doubt."""
        return self.repeats or self.within is not None


SET = DeliveryClass("set")
BLIND = DeliveryClass("blind")


class Destination(Protocol):
    """A tool that takes messages of one or more channels."""

    @property
    def name(self) -> str:
        """How the ledger calls it."""
        ...

    @property
    def delivery_class(self) -> DeliveryClass:
        """What can be done about a message in doubt."""
        ...

    @property
    def batch_size(self) -> int:
        """How many rows may be in flight at once: 1 where a crash leaves doubt."""
        ...

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Take the messages; one outcome for each, in any order.

        Raises:
            DestinationDownError: if none of them was taken and none would be now.
        """
        ...

    def look_up(self, send: Send) -> Literal["sent", "not_sent", "unknown"]:
        """Whether a row in doubt was taken; asked of the class `look_up` alone.

        Raises:
            DestinationDownError: if it does not answer now.
        """
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


class DestinationDownError(Exception):
    """The destination takes nothing now; what was in flight goes back to pending."""
