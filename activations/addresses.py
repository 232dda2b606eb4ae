"""Which texts mail can be sent to, and how they go on the wire: the one rule for it.

Models call it for who is reachable, destinations for whom they write to.
"""

import re
import unicodedata
from email.headerregistry import Address

MAX_CHARACTERS = 254
MAX_NAME_CHARACTERS = 64
MAX_LABEL_CHARACTERS = 63
ATOM = r"[a-zA-Z0-9!#$%&'*+/=^_`{|}~-]+"
LETTER = (
    r"a-zA-Z\u00c0-\u1fff\u2c00-\u2dff\u3005-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
INNER = rf"[0-9{LETTER}-]{{0,61}}[0-9{LETTER}]"
LABEL = rf"[0-9{LETTER}](?:{INNER})?"
MAIL_ADDRESS = re.compile(rf"{ATOM}(?:[.]{ATOM})*@(?:{LABEL}[.])+[{LETTER}]{INNER}")
SENDER = re.compile(
    r'\s*(?:"?(?P<name>[^"<>\r\n]*?)"?\s*<(?P<address>[^<>]*)>|(?P<bare>[^<>"]*?))\s*'
)

# E.164: a plus, the country code, at most fifteen digits in all.
PHONE_NUMBER = r"^\+[1-9][0-9]{6,14}$"


class InvalidAddressError(ValueError):
    """Mail cannot be sent to this address."""


def mail_address(address: str) -> str:
    """The address as it goes on the wire: its domain in ASCII.

    A dotted name of ASCII characters, then a domain of two labels or more; a label may
    hold letters beyond ASCII, which go out in Punycode. The limits of RFC 5321, 4.5.3.1
    and RFC 1035, 2.3.4 are those of the wire.

    Raises:
        InvalidAddressError: if mail cannot be sent to it.
    """
    name, _, domain = address.rpartition("@")
    if len(address) > MAX_CHARACTERS or not MAIL_ADDRESS.fullmatch(address):
        raise InvalidAddressError("not an email address")
    labels = [in_ascii(label) for label in domain.split(".")]
    on_the_wire = f"{name}@{'.'.join(labels)}"
    if (
        len(name) > MAX_NAME_CHARACTERS
        or max(map(len, labels)) > MAX_LABEL_CHARACTERS
        or len(on_the_wire) > MAX_CHARACTERS
    ):
        raise InvalidAddressError("not an email address")
    return on_the_wire


def wire_address(address: str) -> str | None:
    """The same, and nothing where there is none."""
    try:
        return mail_address(address)
    except InvalidAddressError:
        return None


def sender_address(text: str) -> Address:
    """Who mail is from, written as `The Shop <hello@shop.example>`.

    Raises:
        ValueError: if it is no address: no mail at all could be sent.
    """
    found = SENDER.fullmatch(text)
    try:
        if found is None:
            raise InvalidAddressError("not one address")
        address = mail_address(found["bare"] or found["address"] or "")
        return Address(display_name=found["name"] or "", addr_spec=address)
    except ValueError:
        raise ValueError("is no sender of emails") from None


def in_ascii(label: str) -> str:
    """One label of a domain in ASCII (RFC 5891, 4.4)."""
    if label.isascii():
        return label
    return (
        f"xn--{unicodedata.normalize('NFC', label.lower()).encode('punycode').decode()}"
    )
