"""What SDKs of the Segment spec send, as lines.

https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
Which line is a good one is decided where it is read (`envelope`), so that a bad one is
kept with its reason.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from orchestration.settings import parse_moment
from orchestration.sources.envelope import TYPES
from orchestration.sources.inbound.journal import Line
from orchestration.sources.inbound.lines import BadRequestError

BATCH = "batch"
NAMES = (*TYPES, BATCH)
# as browsers abbreviate them
CALLS = {**dict(zip(NAMES, NAMES, strict=True)), **{name[0]: name for name in NAMES}}


def messages_in(call: str, body: Any) -> list[Line]:
    """The messages of one call, each with an id and the sender's clock.

    Raises:
        BadRequestError: if the body is no message, or no batch of them.
    """
    if not isinstance(body, dict):
        raise BadRequestError("the body is no JSON object")
    if call != BATCH:
        return [message_of({**body, "type": call}, {})]
    batch = body.get(BATCH)
    if not isinstance(batch, list):
        raise BadRequestError("batch is no list of messages")
    for index, message in enumerate(batch):
        if not isinstance(message, dict):
            raise BadRequestError(f"batch[{index}] is no JSON object")
    return [message_of(message, body) for message in batch]


def message_of(message: Mapping[str, Any], batch: Mapping[str, Any]) -> Line:
    """A message with what its batch says of it."""
    line = {name: value for name, value in message.items() if name != "writeKey"}
    if line.get("messageId") in (None, "") and line.get("message_id") in (None, ""):
        line["messageId"] = f"inbound-{secrets.token_hex(16)}"
    if isinstance(batch.get("context"), dict):
        own = line.get("context")
        line["context"] = {**batch["context"], **(own if isinstance(own, dict) else {})}
    if "sentAt" not in line and "sentAt" in batch:
        line["sentAt"] = batch["sentAt"]
    if is_moment(line.get("sentAt")) and "originalTimestamp" not in line:
        # the sender's clock is mended where the line is read, by when it came
        stated = line.pop("timestamp", None)
        if stated is not None:
            line["originalTimestamp"] = stated
    return line


def is_moment(value: object) -> bool:
    """Whether a sender's clock can be compared with ours."""
    try:
        parse_moment(str(value))
    except ValueError:
        return False
    return True
