"""Where messages go: one module per destination, all behind `Destination`."""

from collections.abc import Sequence
from typing import Literal, Protocol

from activations.ledger import Outcome, Send
from activations.registry import CHANNELS as CHANNELS
from activations.render import Message


class Destination(Protocol):
    """A tool that takes messages of one or more channels."""

    @property
    def name(self) -> str:
        """How the ledger calls it."""
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

    def reconcile(self, send: Send) -> Literal["sent", "not_sent", "unknown"]:
        """What became of a row that was in flight when a run died."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


class DestinationDownError(Exception):
    """The destination takes nothing now; what was in flight goes back to pending."""
