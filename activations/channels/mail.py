"""A rendered email as an RFC 5322 message; the same bytes whenever it is made again."""

from datetime import UTC
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime

from activations.addresses import mail_address
from activations.ledger import Outcome
from activations.render import Message


class UnsubscribeHeader(UnstructuredHeader):
    """A header that is one link: folded or encoded, no mail program could follow it."""

    max_count = 1

    def fold(self, *, policy: Policy) -> str:  # type: ignore[type-arg]
        """The header in one line."""
        return f"List-Unsubscribe: {self}{policy.linesep}"


HEADERS = HeaderRegistry()
HEADERS.map_to_type("list-unsubscribe", UnsubscribeHeader)  # type: ignore[arg-type]
MAIL = SMTP.clone(header_factory=HEADERS)


def as_mail(message: Message, *, sender: Address) -> EmailMessage:
    """Text and HTML with the headers that mailbox providers ask of bulk senders.

    Raises:
        InvalidAddressError: if mail cannot be sent to the address.
    """
    mail = EmailMessage(policy=MAIL)
    mail["From"] = sender
    mail["To"] = Address(addr_spec=mail_address(message.address))
    mail["Subject"] = message.fields["subject"]
    # the run's moment, not the clock: the message is the same however often it is made
    mail["Date"] = format_datetime(message.as_of.replace(tzinfo=UTC))
    mail["Message-ID"] = f"<{message.send_id}@{sender.domain}>"
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


def cannot_be_built(message: Message, error: Exception) -> Outcome:
    """The end of a message of which no mail or file can be made; quotes nobody."""
    return Outcome(message.send_id, "dead", f"build_failed: {type(error).__name__}")
