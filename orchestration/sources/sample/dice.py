"""Counter-based randomness: a draw depends on the seed, its purpose and its key alone.

No draw shifts another, so that a person whom nobody messages lives the same life
whether or not others are messaged: the common random numbers behind the known truth.
"""

from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtri

Keys: TypeAlias = NDArray[np.uint64]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
#: a column of text
Text: TypeAlias = pa.Array


def scramble(values: Keys) -> Keys:
    """Spread every input bit over the whole word (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Dice:
    """Draws for keyed entities: the same seed, purpose and key, the same draw."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._purposes: dict[str, np.uint64] = {}

    def _purpose(self, purpose: str) -> np.uint64:
        if purpose not in self._purposes:
            digest = blake2b(f"{self.seed}/{purpose}".encode(), digest_size=8).digest()
            self._purposes[purpose] = np.uint64(int.from_bytes(digest, "big"))
        return self._purposes[purpose]

    def bits(self, purpose: str, keys: Keys) -> Keys:
        """64 random bits for each key."""
        return scramble(np.asarray(keys, dtype=np.uint64) ^ self._purpose(purpose))

    def child(self, purpose: str, keys: Keys, counters: Ints | int) -> Keys:
        """The key of each key's counter-th child: a person's day, an order's line."""
        steps = np.atleast_1d(np.asarray(counters, dtype=np.int64)).astype(np.uint64)
        return scramble(
            self.bits(purpose, keys)
            + (steps + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        )

    def uniform(self, purpose: str, keys: Keys) -> Floats:
        """One number in [0, 1) for each key."""
        drawn: Floats = (self.bits(purpose, keys) >> np.uint64(11)).astype(np.float64)
        return drawn * 2.0**-53

    def chance(self, purpose: str, keys: Keys, probability: Floats | float) -> Flags:
        """True with the given probability."""
        return self.uniform(purpose, keys) < probability

    def between(
        self, purpose: str, keys: Keys, low: Floats | float, high: Floats | float
    ) -> Floats:
        """One number in [low, high) for each key."""
        return low + self.uniform(purpose, keys) * (np.asarray(high) - low)

    def whole(self, purpose: str, keys: Keys, low: int, high: int) -> Ints:
        """One whole number in [low, high) for each key."""
        return self.between(purpose, keys, low, high).astype(np.int64)

    def choice(self, purpose: str, keys: Keys, weights: list[float]) -> Ints:
        """The position drawn from the weights, for each key."""
        bounds = np.cumsum(weights) / np.sum(weights)
        drawn = np.searchsorted(bounds, self.uniform(purpose, keys), side="right")
        return np.minimum(drawn, len(weights) - 1).astype(np.int64)

    def normal(self, purpose: str, keys: Keys) -> Floats:
        """One standard normal number for each key."""
        drawn: Floats = ndtri(np.clip(self.uniform(purpose, keys), 1e-12, 1 - 1e-12))
        return drawn


def names(keys: Keys, prefix: str = "", length: int = 16) -> Text:
    """Each key as text: a prefix and its first hexadecimal digits."""
    digits = np.frombuffer(keys.astype(">u8").tobytes().hex().encode(), dtype=np.uint8)
    lead = np.frombuffer(prefix.encode(), dtype=np.uint8)
    letters = np.concatenate(
        [np.tile(lead, (len(keys), 1)), digits.reshape(-1, 16)[:, :length]], axis=1
    )
    bounds = np.arange(len(keys) + 1, dtype=np.int32) * letters.shape[1]
    return pa.StringArray.from_buffers(
        len(keys), pa.py_buffer(bounds), pa.py_buffer(letters.tobytes())
    )
