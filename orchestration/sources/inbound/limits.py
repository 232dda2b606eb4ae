"""How much one source may ask: a bucket of tokens, of which every request takes one.

It is a fence against floods, not a quota: it forgets whom it has not heard from.
"""

import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass

BURST_SECONDS = 2
MAX_SOURCES = 10_000
IPV6_NETWORK = 64
"""Bits that one subscriber is given; the others are theirs to change."""


@dataclass
class Bucket:
    """Tokens that are left, as of a moment of the monotonic clock."""

    tokens: float
    as_of: float


class Buckets:
    """Buckets that fill by `rate` tokens a second and hold two seconds' worth."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._size = rate * BURST_SECONDS
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, host: str, now: float | None = None) -> bool:
        """Take a token of a source; false where none is left."""
        now = time.monotonic() if now is None else now
        source = network(host)
        bucket = self._buckets.pop(source, None) or Bucket(self._size, now)
        gained = (now - bucket.as_of) * self._rate
        bucket.tokens, bucket.as_of = min(self._size, bucket.tokens + gained), now
        self._buckets[source] = bucket
        if len(self._buckets) > MAX_SOURCES:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def network(host: str) -> str:
    """Whose address it is: an IPv4 address, or the network of an IPv6 one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((host, IPV6_NETWORK), strict=False))
