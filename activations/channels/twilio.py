"""Text messages by Twilio: it lists what it took, so that a doubt can be looked up.

https://www.twilio.com/docs/messaging/api/message-resource
"""

from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Self

import httpx2
from pydantic import Field, model_validator

from activations.addresses import PHONE_NUMBER
from activations.channels import DeliveryClass, DestinationDownError
from activations.channels.http import (
    Api,
    HttpDestination,
    InDoubtError,
    Limits,
    Request,
    fitting,
    said,
)
from activations.channels.options import Credential, Options, Surroundings, Url
from activations.ledger import BOUNCED, Outcome, Send
from activations.registry import ChannelRule
from activations.render import Message

# Calls at once are limited, not calls a second: one at a time is always taken.
LIMITS = Limits(
    calls_per_second=50,
    source="https://www.twilio.com/docs/api/errors/20429",
    read_on="2026-11-25",
)
PAGE_SIZE = 100
PAGE_LIMIT = 5
# The number takes no texts (error codes of the API, as of 2026-11-25).
OF_RECIPIENT = frozenset({21211, 21214, 21217, 21401, 21421, 21614})
TOO_MANY_CODES = frozenset({14107, 20429, 21611, 30022})


class TwilioOptions(Options):
    """`twilio`: an account that sends texts."""

    takes = "texts to phones"

    destination: Literal["twilio"]
    account_sid: str = Field(
        pattern="^AC[0-9a-fA-F]{32}$",
        description="the account",
        examples=["AC0123456789abcdef0123456789abcdef"],
    )
    auth_token: Credential = Field(
        description="the place of its token", examples=["{env: TWILIO_AUTH_TOKEN}"]
    )
    sender: str | None = Field(
        default=None,
        pattern=rf"{PHONE_NUMBER}|^[A-Za-z0-9 ]{{1,11}}$|^[0-9]{{3,8}}$",
        description="the number or name that texts are from",
        examples=["'+4915112345678'"],
    )
    messaging_service_sid: str | None = Field(
        default=None,
        pattern="^MG[0-9a-fA-F]{32}$",
        description="the service that picks a number instead",
        examples=["MG0123456789abcdef0123456789abcdef"],
    )
    status_callback: Url | None = Field(
        default=None,
        description="where Twilio reports what became of a text: `rekindle inbound`",
        examples=["https://news.shop.example/webhooks/twilio/status"],
    )
    url: Url = Field(
        default="https://api.twilio.com",
        description="the API, elsewhere in another region",
        examples=["https://api.ie1.twilio.com"],
    )

    @model_validator(mode="after")
    def _has_one_sender(self) -> Self:
        if (self.sender is None) == (self.messaging_service_sid is None):
            raise ValueError("write either sender or messaging_service_sid")
        return self

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Texts alone."""
        return rule.address_type == "phone" and rule.message_form == "sms"

    def open(self, surroundings: Surroundings) -> "TwilioDestination":
        """The account, logged in to."""
        token = self.auth_token.read_header(surroundings)
        api = Api(
            "twilio",
            self.url,
            limits=LIMITS,
            clock=surroundings.clock,
            login=(self.account_sid, token),
        )
        return TwilioDestination(api, self)


class TextRequest(Request):
    """What creates a message (`CreateMessageRequest`)."""

    To: str = Field(pattern=PHONE_NUMBER)
    Body: str = Field(min_length=1, max_length=1600)
    From: str | None = None
    MessagingServiceSid: str | None = None
    StatusCallback: str | None = None


class TwilioDestination(HttpDestination):
    """Creates a message resource for each text."""

    name = "twilio"
    # a message stands in the list minutes after it was taken at the latest
    delivery_class = DeliveryClass(
        "look_up", grace=timedelta(minutes=15), within=timedelta(days=30)
    )

    def __init__(self, api: Api, options: TwilioOptions) -> None:
        super().__init__(api, LIMITS)
        self._options = options
        self._path = f"/2010-04-01/Accounts/{options.account_sid}/Messages.json"

    def call(self, message: Message) -> httpx2.Response:
        """Have it sent now."""
        options = self._options
        form = fitting(
            TextRequest,
            To=message.address,
            Body=message.fields["body"],
            From=options.sender,
            MessagingServiceSid=options.messaging_service_sid,
            StatusCallback=self._reported_to(message),
        )
        return self._api.call("POST", self._path, data=form)

    def _reported_to(self, message: Message) -> str | None:
        """Where Twilio says what became of it, by our name for it."""
        address = self._options.status_callback
        if address is None:
            return None
        return f"{address}{'&' if '?' in address else '?'}send_id={message.send_id}"

    def receipt(self, response: httpx2.Response) -> str | None:
        """The message's SID."""
        return said(response).get("sid")

    def refusal(self, send_id: str, response: httpx2.Response) -> Outcome | None:
        """By the code of the error, of which there are more than statuses."""
        code = said(response).get("code")
        if response.status_code >= 500 or not isinstance(code, int):
            return None
        reason = f"twilio_{code}"
        if code in TOO_MANY_CODES:
            return Outcome(send_id, "pending", reason)
        if code in OF_RECIPIENT:
            return Outcome(send_id, "dead", f"{BOUNCED}: {reason}")
        if response.status_code == httpx2.codes.BAD_REQUEST:
            return Outcome(send_id, "dead", reason)
        return None

    def look_up(self, send: Send) -> Literal["sent", "not_sent", "unknown"]:
        """Whether the list of what went to this number since holds this very text.

        Raises:
            DestinationDownError: if the list cannot be read now.
        """
        if send.frozen is None or send.tried_at is None:
            return "unknown"
        message = Message.from_json(send.frozen)
        # what waits or was put off has no date of sending, so none is asked for
        path: str | None = self._path
        parameters: dict[str, Any] | None = {
            "To": message.address,
            "PageSize": PAGE_SIZE,
        }
        since = (send.tried_at - timedelta(hours=1)).replace(tzinfo=UTC)
        for _ in range(PAGE_LIMIT):
            page = self._page(path, parameters)
            for listed in page["messages"]:
                body = str(listed.get("body"))
                if message.fields["body"] == body or send.send_id in body:
                    return "sent"
            created = [
                parsedate_to_datetime(listed["date_created"])
                for listed in page["messages"]
            ]
            path, parameters = page.get("next_page_uri"), None
            if not path or (created and min(created) < since):
                # by its link a text is known even where Twilio changed its letters
                is_unmistakable = send.send_id in message.fields["body"]
                return "not_sent" if is_unmistakable else "unknown"
        return "unknown"

    def _page(
        self, path: str | None, parameters: dict[str, Any] | None
    ) -> dict[str, Any]:
        try:
            response = self._api.call("GET", path or self._path, params=parameters)
        except InDoubtError as error:
            raise DestinationDownError(f"twilio: {error}") from None
        page = dict(said(response))
        if not response.is_success or not isinstance(page.get("messages"), list):
            raise DestinationDownError(f"twilio_{response.status_code}")
        return page
