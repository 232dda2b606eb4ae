"""A destination that takes every message and contacts nobody: for runs made again."""

from collections.abc import Sequence
from typing import Literal

from activations.channels import SET
from activations.ledger import Outcome, Send
from activations.render import Message


class RehearsalDestination:
    """Says of each message that it was sent; `name` is that of the real destination."""

    delivery_class = SET
    batch_size = 500

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Take all of them."""
        return [Outcome(message.send_id, "sent") for message in messages]

    def look_up(self, send: Send) -> Literal["sent", "not_sent", "unknown"]:
        """Nothing was ever sent."""
        return "not_sent"

    def close(self) -> None:
        """Nothing is held open."""
