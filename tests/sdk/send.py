"""A shopper's day, sent with the Python clients of Segment and RudderStack."""

import sys
from datetime import UTC, datetime
from typing import Any

import rudderstack.analytics as rudder
import segment.analytics as segment

AT = datetime(2026, 6, 10, 8, tzinfo=UTC)
URL = sys.argv[1]


def live(client: Any, name: str) -> None:
    """One page from a campaign, one identify call, one order."""
    campaign = {"campaign": {"name": "spring", "source": "google", "medium": "cpc"}}
    traits = {
        "email": f"{name}@example.com",
        "phone": "+4790000001",
        "firstName": "Ada",
        "address": {"city": "Oslo"},
    }
    order = {
        "order_id": f"{name}-order",
        "revenue": 39.98,
        "currency": "EUR",
        "products": [{"product_id": "p1", "price": 19.99, "quantity": 2}],
    }
    who = {"user_id": name, "anonymous_id": f"{name}-browser", "timestamp": AT}
    client.page(name="Home", context=campaign, **who)
    client.identify(traits=traits, **who)
    client.track(event="Order Completed", properties=order, **who)
    client.flush()
    client.shutdown()


segment.write_key = "key"
segment.host = URL
live(segment, "segment-python")
rudder.write_key = "key"
rudder.dataPlaneUrl = URL
live(rudder, "rudder-python")
