"""Which channels a conversion could not do without: removal effects of Markov chains.

Solves the absorbing chains themselves; it neither simulates paths nor splits the credit
of single conversions, which is the work of `attribution.credits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

ORDERS = (1, 2, 3, 4)

# Beyond this many decimals a float is noise that differs from one machine to another.
DECIMALS = 12

LARGEST_NUMBER = int(np.iinfo(np.int64).max)

# Up to here, counting into every number there may be is faster than looking for those
# there are.
LARGEST_COUNTED_RANGE = 1 << 22

# Past this many states, following the crowd is cheaper than inverting the chain.
LARGEST_INVERTED_CHAIN = 2000

# As many steps, times channels, are followed in a few seconds.
LARGEST_FOLLOWED_CROWD = 50_000_000

SCHEMA = pl.Schema(
    {
        "markov_order": pl.Int32(),
        "channel": pl.String(),
        "removal_effect": pl.Float64(),
        "share": pl.Float64(),
    }
)

Floats = NDArray[np.float64]
Integers = NDArray[np.signedinteger[Any]]


def removal_effects(
    paths: pl.DataFrame, letters: pl.DataFrame, orders: Sequence[int] = ORDERS
) -> pl.DataFrame:
    """The share of conversions lost when every path through a channel fails.

    `paths` holds a row per `channel_sequence` (text, a letter per touch, oldest first),
    how often it ended in a conversion (`conversion_count`) and how often it led nowhere
    (`non_conversion_count`); `letters` which `letter` is which `channel`. One row per
    order and channel comes back; `share` is its effect over the sum of all effects,
    null when nothing converts.

    A chain of order k remembers the last k channels, or all of them while there are
    fewer. Removing a channel sends all who would enter it to where nothing converts
    (Anderl et al., 2016). From an order of the longest path on, the effect of a channel
    is the share of conversions whose path touches it. An order that would take minutes,
    because there are hundreds of channels, is left out.

    >>> paths = pl.DataFrame({
    ...     "channel_sequence": ["a"],
    ...     "conversion_count": [1],
    ...     "non_conversion_count": [3],
    ... })
    >>> letters = pl.DataFrame({"channel": ["email"], "letter": ["a"]})
    >>> removal_effects(paths, letters, orders=[1]).row(0)
    (1, 'email', 1.0, 1.0)
    """
    if paths.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    letters = letters.sort("channel")
    channels = letters["channel"].to_list()
    base = len(channels) + 1
    orders = [order for order in orders if base ** (order + 1) <= LARGEST_NUMBER]
    grams = _count_grams(
        paths["channel_sequence"].str.len_chars().cast(pl.Int64).to_numpy(),
        _number_letters(paths["channel_sequence"], letters["letter"]),
        paths["conversion_count"].cast(pl.Int64).to_numpy(),
        paths["non_conversion_count"].cast(pl.Int64).to_numpy(),
        base=base,
        memory=max(orders),
    )
    found = {order: _effects_of_order(grams, order) for order in orders}
    return pl.concat(
        [
            pl.DataFrame(schema=SCHEMA),
            *(
                _add_shares(order, channels, effects)
                for order, effects in found.items()
                if effects is not None
            ),
        ]
    )


def _add_shares(order: int, channels: list[str], effects: Floats) -> pl.DataFrame:
    """The rows of one order."""
    effects = effects.round(DECIMALS)
    total = effects.sum()
    return pl.DataFrame(
        {
            "markov_order": [order] * len(channels),
            "channel": channels,
            "removal_effect": effects,
            "share": [effect / total if total else None for effect in effects.tolist()],
        },
        schema=SCHEMA,
    ).with_columns(pl.col("share").round(DECIMALS))


def _number_letters(sequences: pl.Series, letters: pl.Series) -> Integers:
    """The place of each letter of all sequences among the letters, from 1."""
    codes = np.array([ord(letter) for letter in letters])
    place_of = np.zeros(codes.max() + 1, np.int64)
    place_of[codes] = np.arange(1, len(codes) + 1)
    text = sequences.str.join().item()
    return place_of[np.frombuffer(text.encode("utf-32-le"), np.uint32)]


@dataclass
class Grams:
    """How often the last channels of a path were followed by one more, or by its end.

    The last channels are one number, a digit each, the newest the lowest; 0 stands
    before the first. So the remainder of a division forgets the oldest of them.
    """

    base: int
    steps: pl.DataFrame
    ends: pl.DataFrame

    def of_order(self, order: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Steps (`before`, `after`, `count`), ends (`before`, `converted`, `count`)."""
        memory = self.base**order
        steps = self.steps.group_by(gram=pl.col("gram") % (memory * self.base)).sum()
        ends = self.ends.group_by(before=pl.col("gram") % memory).sum()
        return steps.select(
            before=pl.col("gram") // self.base,
            after=pl.col("gram") % memory,
            count="count",
        ), ends.select("before", "converted", "count")


def _count_grams(
    lengths: Integers,
    channels: Integers,
    converted: Integers,
    lost: Integers,
    *,
    base: int,
    memory: int,
) -> Grams:
    """Every step of every path, with as many channels before it as are remembered.

    `channels` are the numbers of those of all paths, one after the other.
    """
    size = base ** (memory + 1)
    ends_at = lengths.cumsum()
    is_small = size <= np.iinfo(np.int32).max
    grams: Integers = channels.astype(np.int32) if is_small else channels.copy()
    before = grams.copy()
    for back in range(1, memory + 1):
        before[1:] = before[:-1]
        before[ends_at - lengths] = 0
        grams += before * base**back
    count = converted + lost
    return Grams(
        base,
        _sum_by_gram(grams, size, count=np.repeat(count, lengths)),
        _sum_by_gram(grams[ends_at - 1], size, converted=converted, count=count),
    )


def _sum_by_gram(gram: Integers, size: int, **numbers: Integers) -> pl.DataFrame:
    """The sums of numbers for each gram, of which all are smaller than `size`."""
    if size > LARGEST_COUNTED_RANGE:
        return pl.DataFrame({"gram": gram, **numbers}).group_by("gram").sum()
    sums = {
        name: np.bincount(gram, values, size).astype(np.int64)
        for name, values in numbers.items()
    }
    found = np.flatnonzero(sums["count"])
    return pl.DataFrame(
        {"gram": found, **{name: total[found] for name, total in sums.items()}}
    )


def _effects_of_order(grams: Grams, order: int) -> Floats | None:
    """Each channel's part of the conversions of a chain; none where it is too large."""
    steps, ends = grams.of_order(order)
    # the state in which nothing was seen yet is 0, and comes first
    states = np.union1d([0], np.union1d(steps["after"], ends["before"]))
    before = np.searchsorted(states, steps["before"])
    after = np.searchsorted(states, steps["after"])
    ending = np.searchsorted(states, ends["before"])

    size = len(states)
    leaving = np.bincount(before, steps["count"], size) + np.bincount(
        ending, ends["count"], size
    )
    between = csr_array(
        (steps["count"].to_numpy() / leaving[before], (before, after)), (size, size)
    )
    to_conversion = np.bincount(ending, ends["converted"], size) / leaving
    newest = states % grams.base
    if not to_conversion.any():
        return np.zeros(grams.base - 1)
    if size <= LARGEST_INVERTED_CHAIN:
        lost = _lose_by_inverse(between, to_conversion, newest, grams.base)
    elif order == 1 or between.nnz * grams.base <= LARGEST_FOLLOWED_CROWD:
        lost = _lose_by_following(between, to_conversion, newest, grams.base)
    else:
        return None
    return lost.clip(0, 1)


def _lose_by_inverse(
    between: csr_array, to_conversion: Floats, newest: Integers, base: int
) -> Floats:
    """What is lost with each channel: the conversions that pass through it.

    With N = (I - Q)^-1, the states A of a channel are first entered with the chances
    N[start, A] N[A, A]^-1 (Kemeny and Snell, Finite Markov Chains, 1960).
    """
    visits = np.linalg.inv(np.eye(len(newest)) - between.toarray())
    converts = visits @ to_conversion
    lost = np.empty(base - 1)
    for channel in range(1, base):
        states = np.flatnonzero(newest == channel)
        through = np.linalg.solve(visits[np.ix_(states, states)], converts[states])
        lost[channel - 1] = visits[0, states] @ through
    lost /= converts[0]
    return lost


def _lose_by_following(
    between: csr_array, to_conversion: Floats, newest: Integers, base: int
) -> Floats:
    """The same, by following those who never enter the channel until they are gone."""
    everybody = _follow(between, to_conversion, 1e-15)
    left = [
        _follow(between[kept][:, kept], to_conversion[kept], 1e-15 * everybody)
        for channel in range(1, base)
        for kept in [np.flatnonzero(newest != channel)]
    ]
    lost: Floats = 1 - np.array(left) / everybody
    return lost


def _follow(between: csr_array, to_conversion: Floats, precision: float) -> float:
    """The chance to convert from the first state on."""
    crowd, converted = np.zeros(len(to_conversion)), 0.0
    crowd[0] = 1.0
    arriving = between.T.tocsr()
    while crowd.sum() > precision:
        # numpy's own sum, which does not depend on the number of threads
        converted += float((crowd * to_conversion).sum())
        crowd = arriving @ crowd
    return converted
