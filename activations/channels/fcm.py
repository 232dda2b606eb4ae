"""Push by Firebase Cloud Messaging. It has no key for repeats: a doubt stays one.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
"""

from typing import Literal

import httpx2
from pydantic import Field

from activations.channels.google import GoogleLogin, google_login
from activations.channels.http import (
    Api,
    HttpDestination,
    Limits,
    Request,
    fitting,
    said,
)
from activations.channels.options import Credential, Options, Surroundings, Url
from activations.ledger import BOUNCED, Outcome
from activations.registry import ChannelRule
from activations.render import Message

# 600,000 a minute and project.
LIMITS = Limits(
    calls_per_second=10_000,
    source="https://firebase.google.com/docs/cloud-messaging/throttling-and-quotas",
    read_on="2026-11-25",
)
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


class FcmOptions(Options):
    """`fcm`: a Firebase project whose app people have."""

    takes = "push to devices"

    destination: Literal["fcm"]
    project: str = Field(
        pattern="^[a-z][a-z0-9-]{4,28}[a-z0-9]$",
        description="the id of the Firebase project",
        examples=["my-shop-1234"],
    )
    service_account: Credential = Field(
        description="the place of a service account's JSON key",
        examples=["{file: /run/secrets/firebase.json}"],
    )
    url: Url = Field(
        default="https://fcm.googleapis.com",
        description="the API",
        examples=["https://fcm.googleapis.com"],
    )

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Devices alone."""
        return rule.address_type == "device_token"

    def open(self, surroundings: Surroundings) -> "FcmDestination":
        """The project, as the service account."""
        login = google_login(self.service_account, SCOPE, surroundings)
        api = Api("fcm", self.url, limits=LIMITS, clock=surroundings.clock)
        return FcmDestination(api, login, project=self.project)


class Notification(Request):
    """What the device shows."""

    title: str = Field(min_length=1)
    body: str = Field(min_length=1)


class PushMessage(Request):
    """A message to one device."""

    token: str = Field(min_length=1)
    notification: Notification
    data: dict[str, str]


class PushRequest(Request):
    """What sends it (`SendMessageRequest`)."""

    message: PushMessage


class FcmDestination(HttpDestination):
    """Sends each message by a call of its own: there is no batch any more."""

    name = "fcm"

    def __init__(self, api: Api, login: GoogleLogin, *, project: str) -> None:
        super().__init__(api, LIMITS)
        self._login = login
        self._path = f"/v1/projects/{project}/messages:send"

    def call(self, message: Message) -> httpx2.Response:
        """Have it pushed now."""
        shown = ("title", "body")
        body = fitting(
            PushRequest,
            message={
                "token": message.address,
                "notification": {name: message.fields[name] for name in shown},
                "data": {
                    "send_id": message.send_id,
                    "content_id": message.content_id,
                    **{
                        name: text
                        for name, text in message.fields.items()
                        if name not in shown
                    },
                },
            },
        )
        return self._api.call(
            "POST", self._path, json=body, headers=self._login.headers()
        )

    def receipt(self, response: httpx2.Response) -> str | None:
        """The message's name."""
        return said(response).get("name")

    def refusal(self, send_id: str, response: httpx2.Response) -> Outcome | None:
        """By the error's own code: a device that has lost the app is 404 too."""
        error = said(response).get("error")
        details = error.get("details") if isinstance(error, dict) else None
        codes = [
            str(detail["errorCode"])
            for detail in (details if isinstance(details, list) else [])
            if isinstance(detail, dict) and "errorCode" in detail
        ]
        code = codes[0] if codes else ""
        reason = f"fcm_{response.status_code}_{code}"
        if code == "UNREGISTERED":
            return Outcome(send_id, "dead", f"{BOUNCED}: {reason}")
        if code in ("INVALID_ARGUMENT", "SENDER_ID_MISMATCH"):
            return Outcome(send_id, "dead", reason)
        return None
