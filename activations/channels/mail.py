"""A rendered email as an RFC 5322 message; the same bytes whenever it is made again."""

from datetime import UTC
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from activations.render import Message


def as_mail(message: Message, *, sender: str) -> EmailMessage:
    """Text and HTML with the headers that mailbox providers ask of bulk senders.

    Raises:
        ValueError: if the address is none.
    """
    name, address = parseaddr(sender)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(display_name=name, addr_spec=address)
    mail["To"] = Address(addr_spec=checked_address(message.address))
    mail["Subject"] = message.fields["subject"]
    # the run's moment, not the clock: the message is the same however often it is made
    mail["Date"] = format_datetime(message.as_of.replace(tzinfo=UTC))
    mail["Message-ID"] = f"<{message.send_id}@{address.rpartition('@')[2]}>"
    mail["X-Rekindle-Send-Id"] = message.send_id
    unsubscribe = message.fields.get("unsubscribe_link")
    if unsubscribe:
        # RFC 8058: one click, no page
        mail["List-Unsubscribe"] = f"<{unsubscribe}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(message.fields["text"], cte="quoted-printable")
    mail.add_alternative(message.fields["html"], subtype="html", cte="quoted-printable")
    mail.set_boundary(f"={message.send_id}=")
    return mail


def checked_address(address: str) -> str:
    """The address itself, if mail can be sent to it.

    Raises:
        ValueError: if it is not one `local@domain` of plain ASCII.
    """
    local, at, domain = address.rpartition("@")
    is_plain = address.isascii() and address.isprintable()
    if not (local and at and domain and is_plain) or set(address) & set(" <>,;"):
        raise ValueError("not an email address")
    return address
