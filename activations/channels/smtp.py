"""Email over SMTP: one message in flight at a time, and none ever repeated in doubt.

RFC 5321, section 6.1: once the server said yes to the data it owns the message. What
breaks before the data is tried again; what breaks while the data is on its way is
`unknown`. Server texts are never kept: they quote the recipient's address.
"""

import re
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Literal

from activations.addresses import InvalidAddressError, sender_address
from activations.channels import BLIND, DestinationDownError
from activations.channels.mail import as_mail, cannot_be_built
from activations.channels.options import CredentialError, Options, Surroundings
from activations.ledger import BOUNCED, Outcome, Send
from activations.registry import ChannelRule
from activations.render import Message

OK = 250
OK_FORWARDED = 251
ENHANCED_STATUS = re.compile(rb"\b[245]\.\d{1,3}\.\d{1,3}\b")
# What is wrong is the recipient's address (RFC 3463, 3.2 and 3.3): bad or moved, but
# not the sender's (5.1.7, 5.1.8), or a mailbox that takes nothing more.
OF_RECIPIENT = re.compile(r"5\.1\.(?![78]$)\d+|5\.2\.1")
# The same, where the server says no more (RFC 5321, 4.2.3): it is so of a recipient.
NO_SUCH_MAILBOX = (550, 551, 553)


@dataclass(frozen=True)
class SmtpServer:
    """How to reach a server; port 465 speaks TLS from the first byte."""

    host: str
    port: int = 587
    user: str | None = None
    password: str | None = None
    starttls: bool = True
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.user and not self.is_encrypted:
            raise ValueError("an SMTP password is sent over an encrypted session only")

    @property
    def is_encrypted(self) -> bool:
        """Whether what is said stays between the two."""
        return self.starttls or self.port == smtplib.SMTP_SSL_PORT

    def __repr__(self) -> str:
        return f"SmtpServer({self.host}:{self.port})"


class SmtpOptions(Options):
    """`smtp`: the mail server that the settings name."""

    takes = "email"

    destination: Literal["smtp"] = "smtp"

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Email alone."""
        return rule.message_form == "email"

    def open(self, surroundings: Surroundings) -> "SmtpDestination":
        """The server of the settings."""
        if surroundings.smtp is None:
            raise CredentialError("REKINDLE_SMTP_HOST is not set")
        return SmtpDestination(surroundings.smtp, email_from=surroundings.email_from)


class SmtpDestination:
    """An SMTP server that sends for real."""

    name = "smtp"
    # a server does not say what it took from a process that died
    delivery_class = BLIND
    batch_size = 1

    def __init__(self, server: SmtpServer, *, email_from: str) -> None:
        self._server = server
        self._sender = sender_address(email_from)
        self._session: smtplib.SMTP | None = None

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Hand over each message on one open session."""
        return [self._send_one(message) for message in messages]

    def look_up(self, send: Send) -> Literal["unknown"]:
        """Nothing that a server could be asked."""
        return "unknown"

    def close(self) -> None:
        """End the session politely."""
        if self._session is not None:
            try:
                self._session.quit()
            except (smtplib.SMTPException, OSError):
                self._session.close()
            self._session = None

    def _send_one(self, message: Message) -> Outcome:
        try:
            mail = as_mail(message, sender=self._sender)
            content = mail.as_bytes()
        except InvalidAddressError:
            return Outcome(message.send_id, "dead", "invalid_address")
        # one message that cannot be written is no reason to keep back the others
        except Exception as error:
            return cannot_be_built(message, error)
        session = self._open_session()
        return self._announce(session, message, mail) or self._transfer(
            session, message, mail, content
        )

    def _announce(
        self, session: smtplib.SMTP, message: Message, mail: EmailMessage
    ) -> Outcome | None:
        """Name sender and recipient; an outcome only if the server will not have it."""
        is_recipient = False
        try:
            code, text = session.mail(mail["From"].addresses[0].addr_spec)
            if code == OK:
                is_recipient = True
                code, text = session.rcpt(mail["To"].addresses[0].addr_spec)
            if code in (OK, OK_FORWARDED):
                return None
            session.rset()
        except (smtplib.SMTPServerDisconnected, OSError):
            self._drop_session()
            return Outcome(message.send_id, "pending", "connection_lost")
        return refused(message.send_id, code, text, is_recipient=is_recipient)

    def _transfer(
        self,
        session: smtplib.SMTP,
        message: Message,
        mail: EmailMessage,
        content: bytes,
    ) -> Outcome:
        """Hand over the content: from here on a broken line leaves doubt."""
        try:
            code, text = session.data(content)
        except smtplib.SMTPDataError as error:
            # the server refused DATA itself, before any content
            code, text = error.smtp_code, as_bytes(error.smtp_error)
        except (smtplib.SMTPServerDisconnected, OSError):
            self._drop_session()
            return Outcome(message.send_id, "unknown", "connection_lost_in_data")
        if code != OK:
            return refused(message.send_id, code, text)
        return Outcome(message.send_id, "sent", receipt=mail["Message-ID"])

    def _open_session(self) -> smtplib.SMTP:
        if self._session is not None:
            return self._session
        server = self._server
        try:
            session = connect(server)
            if server.user:
                session.login(server.user, server.password or "")
            session.ehlo_or_helo_if_needed()
        except (smtplib.SMTPException, OSError) as error:
            raise DestinationDownError(f"smtp: {type(error).__name__}") from None
        self._session = session
        return session

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def connect(server: SmtpServer) -> smtplib.SMTP:
    """An encrypted session, unless the server was said to have none.

    Raises:
        smtplib.SMTPException, OSError: if there is none to be had.
    """
    place = (server.host, server.port)
    context = ssl.create_default_context()
    if server.port == smtplib.SMTP_SSL_PORT:
        return smtplib.SMTP_SSL(*place, timeout=server.timeout_seconds, context=context)
    session = smtplib.SMTP(*place, timeout=server.timeout_seconds)
    if server.starttls:
        session.starttls(context=context)
    return session


def refused(
    send_id: str, code: int, text: bytes, *, is_recipient: bool = False
) -> Outcome:
    """What a refusal means (RFC 5321, 4.2.1): 4xx may pass later, 5xx is for good.

    One for good that is about the address is a bounce; `is_recipient` where the server
    was asked for nothing else.
    """
    found = ENHANCED_STATUS.search(text)
    enhanced = found[0].decode() if found else ""
    reason = f"smtp_{code}" + (f"_{enhanced}" if enhanced else "")
    if 400 <= code < 500:
        return Outcome(send_id, "pending", reason)
    says_nothing = enhanced in ("", "5.0.0")
    if OF_RECIPIENT.fullmatch(enhanced) or (
        is_recipient and says_nothing and code in NO_SUCH_MAILBOX
    ):
        reason = f"{BOUNCED}: {reason}"
    return Outcome(send_id, "dead", reason)


def as_bytes(text: bytes | str) -> bytes:
    """smtplib gives some server texts as bytes and some as text."""
    return text.encode() if isinstance(text, str) else text
