"""Signed links by which whoever got a message says what they want of the next ones.

A link holds whom it is about, so that nobody has to be looked up when it is followed.
It is signed, not encrypted: whoever has the message may read it, nobody may change it.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from activations.ledger import Send

UNSUBSCRIBE = "unsubscribe"
PREFERENCES = "preferences"
KEY_LENGTH = 32
"""Characters of the shortest key: a guess at it must be hopeless."""
PURPOSE = b"rekindle link\0"
"""Parts these signatures from any other that the same key may make."""


class BadTokenError(ValueError):
    """A token that was not signed by a key in use, or is not whole."""


@dataclass(frozen=True)
class Recipient:
    """Who got a message: which send it was, on which channel, and their identifier."""

    send_id: str
    channel: str
    identifier_type: str
    identifier: str

    def __repr__(self) -> str:
        return f"Recipient({self.send_id})"


class Links:
    """Links below an address, signed by the first of some keys and read by any.

    Raises:
        ValueError: if there is no key, or one is too short.
    """

    def __init__(self, address: str, keys: Sequence[str]) -> None:
        if not keys or min(map(len, keys)) < KEY_LENGTH:
            raise ValueError(f"a key that signs links has {KEY_LENGTH} characters")
        self.address = address.rstrip("/")
        self._keys = [key.encode() for key in keys]

    def unsubscribe(self, send: "Send") -> str:
        """The link that a mail program may follow by itself (RFC 8058)."""
        return self._link(UNSUBSCRIBE, send)

    def preferences(self, send: "Send") -> str:
        """The link to the page on which channels and topics are chosen."""
        return self._link(PREFERENCES, send)

    def read(self, token: str) -> Recipient:
        """Whom a token is about.

        Raises:
            BadTokenError: if it is not exactly what one of the keys signs.
        """
        content, _, signature = token.rpartition(".")
        if not token.isascii() or not any(
            hmac.compare_digest(sign(key, content), signature) for key in self._keys
        ):
            raise BadTokenError("the link cannot be used")
        padding = "=" * (-len(content) % 4)
        return Recipient(*json.loads(base64.urlsafe_b64decode(content + padding)))

    def _link(self, page: str, send: "Send") -> str:
        whole = send.identifier_type is not None and send.identifier is not None
        recipient = Recipient(
            send.send_id,
            send.channel,
            str(send.identifier_type if whole else "address"),
            str(send.identifier if whole else send.address),
        )
        content = encode(json.dumps(astuple(recipient), separators=(",", ":")).encode())
        return f"{self.address}/{page}/{content}.{sign(self._keys[0], content)}"


def sign(key: bytes, content: str) -> str:
    """The signature of a token's content: over its text, of which there is one."""
    return encode(hmac.digest(key, PURPOSE + content.encode(), hashlib.sha256))


def encode(content: bytes) -> str:
    """Bytes as text that may stand in a URL (RFC 4648, section 5), without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
