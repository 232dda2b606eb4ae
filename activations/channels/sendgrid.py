"""Email by SendGrid. It has no key for repeats: a doubt stays one.

https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send
"""

from typing import Literal

import httpx2
from pydantic import Field

from activations.addresses import sender_address
from activations.channels.http import (
    Api,
    HttpDestination,
    Limits,
    Request,
    fitting,
    mail_address_of,
    said,
)
from activations.channels.options import Credential, Options, Surroundings, Url
from activations.ledger import Outcome
from activations.registry import ChannelRule
from activations.render import Message

# No numbers are published; X-RateLimit-* says when to wait.
LIMITS = Limits(
    calls_per_second=100,
    source="https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits",
    read_on="2026-11-25",
)


class SendGridOptions(Options):
    """`sendgrid`: an account that sends email."""

    takes = "email"

    destination: Literal["sendgrid"]
    api_key: Credential = Field(
        description="the place of a key that may send",
        examples=["{env: SENDGRID_API_KEY}"],
    )
    url: Url = Field(
        default="https://api.sendgrid.com",
        description="the API, elsewhere for accounts of the EU",
        examples=["https://api.eu.sendgrid.com"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Email alone."""
        return rule.message_form == "email"

    def open(self, surroundings: Surroundings) -> "SendGridDestination":
        """The account, with the sender of every email."""
        key = self.api_key.read_header(surroundings)
        api = Api(
            "sendgrid",
            self.url,
            limits=LIMITS,
            clock=surroundings.clock,
            headers={"authorization": f"Bearer {key}"},
        )
        return SendGridDestination(api, email_from=surroundings.email_from)


class Mailbox(Request):
    """An address with its name."""

    email: str = Field(min_length=3, max_length=254)
    name: str | None = None


class Personalization(Request):
    """One envelope."""

    to: tuple[Mailbox, ...] = Field(min_length=1, max_length=1)
    headers: dict[str, str] | None = None
    custom_args: dict[str, str]


class Content(Request):
    """One of the forms in which a mail is read."""

    type: Literal["text/plain", "text/html"]
    value: str = Field(min_length=1)


class MailRequest(Request):
    """What sends a mail."""

    personalizations: tuple[Personalization, ...] = Field(min_length=1, max_length=1000)
    from_: Mailbox = Field(serialization_alias="from")
    subject: str = Field(min_length=1)
    content: tuple[Content, ...] = Field(min_length=1)
    categories: tuple[str, ...] = Field(max_length=10)


class SendGridDestination(HttpDestination):
    """Sends each mail by a call of its own: each has its own words."""

    name = "sendgrid"

    def __init__(self, api: Api, *, email_from: str) -> None:
        super().__init__(api, LIMITS)
        sender = sender_address(email_from)
        self._sender = Mailbox(email=sender.addr_spec, name=sender.display_name or None)

    def call(self, message: Message) -> httpx2.Response:
        """Have it sent now."""
        address = mail_address_of(message)
        unsubscribe = message.fields.get("unsubscribe_link")
        # RFC 8058: one click, no page
        headers = {
            "List-Unsubscribe": f"<{unsubscribe}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
        body = fitting(
            MailRequest,
            personalizations=(
                Personalization(
                    to=(Mailbox(email=address),),
                    headers=headers if unsubscribe else None,
                    custom_args={"send_id": message.send_id},
                ),
            ),
            from_=self._sender,
            subject=message.fields["subject"],
            content=(
                Content(type="text/plain", value=message.fields["text"]),
                Content(type="text/html", value=message.fields["html"]),
            ),
            categories=(message.content_id,),
        )
        return self._api.call("POST", "/v3/mail/send", json=body)

    def receipt(self, response: httpx2.Response) -> str | None:
        """The id by which its events name the mail."""
        return response.headers.get("x-message-id")

    def refusal(self, send_id: str, response: httpx2.Response) -> Outcome | None:
        """A bad request names the field; its text is left out."""
        if response.status_code != httpx2.codes.BAD_REQUEST:
            return None
        errors = said(response).get("errors")
        fields = [
            str(error["field"])
            for error in (errors if isinstance(errors, list) else [])
            if isinstance(error, dict) and error.get("field")
        ]
        reason = ": ".join(("sendgrid_400", *fields[:1]))
        return Outcome(send_id, "dead", reason)
