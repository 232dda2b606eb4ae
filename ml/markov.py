"""Which channels a conversion could not do without: removal effects of Markov chains.

Solves the absorbing chains themselves; it neither simulates paths nor splits the credit
of single conversions, which is the work of `attribution.credits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import splu

ORDERS = (1, 2, 3, 4)

# Stands in no channel's name.
SEPARATOR = "␟"

# Beyond this many decimals a float is noise that differs from one machine to another.
DECIMALS = 12

# Up to here, counting into every number there may be is faster than looking for those
# there are.
LARGEST_COUNTED_RANGE = 1 << 22

# Past this many states a factorisation fills up, and following the crowd is cheaper.
LARGEST_FACTORED_CHAIN = 2000

SCHEMA = pl.Schema(
    {
        "markov_order": pl.Int32(),
        "channel": pl.String(),
        "removal_effect": pl.Float64(),
        "share": pl.Float64(),
    }
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def removal_effects(
    paths: pl.DataFrame, orders: Sequence[int] = ORDERS
) -> pl.DataFrame:
    """The share of conversions lost when every path through a channel fails.

    `paths` holds a row per `channel_sequence` (text, oldest first, `SEPARATOR` between
    channels), how often it ended in a conversion (`conversion_count`) and how often it
    led nowhere (`non_conversion_count`). One row per order and channel comes back;
    `share` is its effect over the sum of all effects, null when nothing converts.

    A chain of order k remembers the last k channels, or all of them while there are
    fewer. Removing a channel sends all who would enter it to where nothing converts
    (Anderl et al., 2016). From an order of the longest path on, the effect of a channel
    is the share of conversions whose path touches it.

    >>> paths = pl.DataFrame({
    ...     "channel_sequence": ["email"],
    ...     "conversion_count": [1],
    ...     "non_conversion_count": [3],
    ... })
    >>> removal_effects(paths, orders=[1]).row(0)
    (1, 'email', 1.0, 1.0)
    """
    if paths.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    touches = paths["channel_sequence"].str.split(SEPARATOR)
    channels, numbers = _number_in_order(touches.explode())
    grams = _count_grams(
        touches.list.len().cast(pl.Int64).to_numpy(),
        numbers,
        paths["conversion_count"].cast(pl.Int64).to_numpy(),
        paths["non_conversion_count"].cast(pl.Int64).to_numpy(),
        base=len(channels) + 1,
        memory=max(orders),
    )
    effects = [_effects_of_order(grams, len(channels), order) for order in orders]
    return (
        pl.DataFrame(
            {
                "markov_order": np.repeat(orders, len(channels)),
                "channel": channels * len(orders),
                "removal_effect": np.concatenate(effects).round(DECIMALS),
            }
        )
        .with_columns(
            total=pl.col("removal_effect").sum().over("markov_order").replace(0, None)
        )
        .with_columns(
            share=(pl.col("removal_effect") / pl.col("total")).round(DECIMALS)
        )
        .select(SCHEMA.names())
        .cast(SCHEMA)
    )


def _number_in_order(names: pl.Series) -> tuple[list[str], Integers]:
    """The distinct names, sorted, and the place of each name among them, from 1."""
    categories = names.cast(pl.Categorical)
    distinct = categories.unique().cast(pl.String).sort()
    codes = distinct.cast(pl.Categorical).to_physical().to_numpy()
    place_of = np.zeros(int(codes.max()) + 1, np.int64)
    place_of[codes] = np.arange(1, len(codes) + 1)
    return distinct.to_list(), place_of[categories.to_physical().to_numpy()]


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
    if size > np.iinfo(np.int64).max:
        raise ValueError(
            f"{base - 1} channels are too many for a memory of {memory} of them"
        )
    ends_at = lengths.cumsum()
    position = np.arange(len(channels)) - np.repeat(ends_at - lengths, lengths)
    grams = channels.copy()
    for back in range(1, memory + 1):
        before = np.where(position[back:] >= back, channels[:-back], 0)
        grams[back:] += before * base**back
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


def _effects_of_order(grams: Grams, channel_count: int, order: int) -> Floats:
    """Each channel's part of the conversions of one chain."""
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
    if not to_conversion.any():
        return np.zeros(channel_count)

    everybody = _conversion_rate(between, to_conversion, precision=1e-15)
    newest = states % grams.base
    left = [
        _conversion_rate(
            between[newest != channel][:, newest != channel],
            to_conversion[newest != channel],
            precision=1e-15 * everybody,
        )
        for channel in range(1, channel_count + 1)
    ]
    return (1 - np.array(left) / everybody).clip(0, 1)


def _conversion_rate(
    between: csr_array, to_conversion: Floats, precision: float
) -> float:
    """The chance to convert from the first state on."""
    size = len(to_conversion)
    if size <= LARGEST_FACTORED_CHAIN:
        chain = (eye_array(size) - between).tocsc()
        return float(splu(chain).solve(to_conversion)[0])
    crowd, converted = np.zeros(size), 0.0
    crowd[0] = 1.0
    arriving = between.T.tocsr()
    while crowd.sum() > precision:
        # numpy's own sum, which does not depend on the number of threads
        converted += float((crowd * to_conversion).sum())
        crowd = arriving @ crowd
    return converted
