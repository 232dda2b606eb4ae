"""Which channels a conversion could not do without: removal effects of a Markov chain.

Solves the absorbing chain exactly and in one go; it neither simulates paths nor
splits the credit of single conversions, which is the work of `attribution.credits`.
"""

from __future__ import annotations

import numpy as np
import polars as pl

START = "(start)"
CONVERSION = "(conversion)"
NULL = "(null)"

# Beyond this many decimals a float is noise that differs from one machine to another.
DECIMALS = 12

SCHEMA = pl.Schema(
    {
        "markov_order": pl.Int32(),
        "channel": pl.String(),
        "removal_effect": pl.Float64(),
        "share": pl.Float64(),
    }
)


def removal_effects(transitions: pl.DataFrame) -> pl.DataFrame:
    """The share of conversions lost when every path through a channel fails.

    `transitions` counts steps (`from_state`, `to_state`, `transition_count`) of an
    order-1 chain between `(start)`, the channels, `(conversion)` and `(null)`. One row
    per channel comes back; `share` is its effect over the sum of all effects, null
    when nothing converts.

    Removing a channel sends all who would enter it to `(null)` (Anderl et al., 2016).
    The conversions lost are those that pass through it at least once: with
    N = (I - Q)^-1, the channel is ever visited with probability N[start, c] / N[c, c]
    (Kemeny and Snell, Finite Markov Chains, 1960) and converts from there with h[c].

    >>> steps = [("(start)", "email", 4), ("email", "(conversion)", 1),
    ...          ("email", "(null)", 3)]
    >>> columns = ["from_state", "to_state", "transition_count"]
    >>> effects = removal_effects(pl.DataFrame(steps, schema=columns, orient="row"))
    >>> effects.row(0)
    (1, 'email', 1.0, 1.0)
    """
    channels = _channels(transitions)
    if not channels:
        return pl.DataFrame(schema=SCHEMA)

    states = [START, *channels]
    between, to_conversion = _probabilities(transitions, states)
    visits = np.linalg.inv(np.eye(len(states)) - between)
    converts = visits @ to_conversion
    ever_visited = visits[0, 1:] / np.diag(visits)[1:]
    lost = ever_visited * converts[1:]

    effects = np.zeros(len(channels)) if converts[0] == 0 else lost / converts[0]
    effects = effects.clip(0, 1).round(DECIMALS)
    total = effects.sum()
    shares = [None if total == 0 else effect / total for effect in effects.tolist()]
    return pl.DataFrame(
        {
            "markov_order": [1] * len(channels),
            "channel": channels,
            "removal_effect": effects,
            "share": shares,
        },
        schema=SCHEMA,
    ).with_columns(pl.col("share").round(DECIMALS))


def _channels(transitions: pl.DataFrame) -> list[str]:
    """The states between start and end, in the one order every run agrees on."""
    states = {*transitions["from_state"], *transitions["to_state"]}
    return sorted(states - {START, CONVERSION, NULL})


def _probabilities(
    transitions: pl.DataFrame, states: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Step probabilities between the passing states, and from each to conversion."""
    index = {state: row for row, state in enumerate(states)}
    columns = {**index, CONVERSION: len(states), NULL: len(states) + 1}
    counts = np.zeros((len(states), len(columns)))
    for from_state, to_state, count in transitions.select(
        "from_state", "to_state", "transition_count"
    ).iter_rows():
        counts[index[from_state], columns[to_state]] += count
    leaving = counts.sum(axis=1, keepdims=True)
    if (leaving == 0).any():
        stuck = [state for state, row in index.items() if leaving[row, 0] == 0]
        raise ValueError(f"no step leads on from {', '.join(stuck)}")
    probabilities = counts / leaving
    return probabilities[:, : len(states)], probabilities[:, len(states)]
