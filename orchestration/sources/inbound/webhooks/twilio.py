"""Twilio's webhooks of text messages, signed by HMAC-SHA1 over address and form.

https://www.twilio.com/docs/usage/security#validating-requests
"""

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl, urlsplit

from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import person, track
from orchestration.sources.inbound.replies import ReplyWords
from orchestration.sources.inbound.webhooks import BadSignatureError, Call, digest

NOT_YET = ("accepted", "scheduled", "queued", "sending", "sent")
"""States of a text message that say less than the ledger does."""
OF_THE_NUMBER = ("21211", "21610", "21614", "30004", "30005", "30006")
"""Errors that stay: the number is none, takes no texts or wants none.

https://www.twilio.com/docs/api/errors
"""
GRANTED = {
    "purpose": "marketing",
    "status": "granted",
    "lawful_basis": "consent",
    "policy_version": "keyword",
}


class Twilio:
    """Who holds Twilio's token, and the words that ask to stop."""

    def __init__(self, token: str, words: ReplyWords) -> None:
        self._token = token.encode()
        self._words = words

    def form(self, call: Call) -> dict[str, str]:
        """The fields of a form that Twilio signed."""
        signature = call.header("x-twilio-signature")
        try:
            pairs = parse_qsl(
                call.body.decode(), keep_blank_values=True, errors="strict"
            )
        except ValueError:
            raise BadSignatureError("the form is no UTF-8") from None
        signed = "".join(f"{name}{value}" for name, value in sorted(set(pairs)))
        # some of its parts sign the address with the port that https has anyway
        site = urlsplit(call.url)
        with_port = site._replace(netloc=f"{site.netloc}:443").geturl()
        if not any(
            hmac.compare_digest(
                base64.b64encode(
                    hmac.digest(self._token, (url + signed).encode(), hashlib.sha1)
                ),
                signature.encode(),
            )
            for url in (call.url, with_port)
        ):
            raise BadSignatureError("signature")
        return dict(pairs)

    def status_lines(self, call: Call) -> list[Line]:
        """How far a message came; `send_id` is that of the address called."""
        form = self.form(call)
        status = form.get("MessageStatus", form.get("SmsStatus", ""))
        if status in NOT_YET or "MessageSid" not in form:
            return []
        channel, phone = channel_and_phone(form.get("To", ""))
        code = form.get("ErrorCode")
        has_failed = status in ("failed", "undelivered")
        return [
            track(
                f"SMS {status.title()}",
                f"twilio-{form['MessageSid']}-{status}",
                person(phone),
                {
                    "channel": channel,
                    "phone": phone,
                    "send_id": dict(parse_qsl(urlsplit(call.url).query)).get("send_id"),
                    "error_code": code,
                    "bounce_type": ("hard" if code in OF_THE_NUMBER else "soft")
                    if has_failed
                    else None,
                },
            )
        ]

    def message_lines(self, call: Call) -> list[Line]:
        """What a person wrote to us, and whether they want no more."""
        form = self.form(call)
        channel, phone = channel_and_phone(form.get("From", ""))
        said = form.get("Body", "")
        answer = self._words.answer(said)
        # Twilio's own reading, where the brand has given it words of its own
        kind = form.get("OptOutType", "")
        if kind == "STOP":
            answer = "stop"
        elif kind == "START" and answer == "other":
            answer = "start"
        event, consent = {
            "stop": ("SMS Stopped", {}),
            "start": ("Channel Consent Updated", GRANTED),
            "other": ("Customer Message Received", {}),
        }[answer]
        return [
            track(
                event,
                f"twilio-{form.get('MessageSid') or digest(form)}",
                person(phone),
                {"channel": channel, "phone": phone, "body": said, **consent},
            )
        ]


def channel_and_phone(address: str) -> tuple[str, str]:
    """`whatsapp:+4790000001` is a channel and a number; a number alone is SMS."""
    channel, _, phone = address.rpartition(":")
    return channel or "sms", phone
