"""What another way of choosing channels would have earned, by logged chances.

Doubly robust (Dudík, Langford, Li 2011): what was thought of each channel before, put
right by what came of the sends on which chance and the other policy agree. Right if
either the logged probabilities or the propensities are.
"""

from collections.abc import Sequence

import polars as pl

LOGGED, BEST = "logged", "best_channel"
#: an estimate from fewer sends would rest on too little
MIN_SENDS = 50
#: the normal quantile of an interval that holds 95 times in 100
QUANTILE = 1.96

SCHEMA = {
    "policy": pl.String,
    "answer_rate": pl.Float64,
    "answer_rate_low": pl.Float64,
    "answer_rate_high": pl.Float64,
    "inverse_propensity_rate": pl.Float64,
    "self_normalized_rate": pl.Float64,
    "send_count": pl.Int64,
    "effective_send_count": pl.Float64,
    "reason": pl.String,
}


def score_policies(trials: pl.DataFrame, channels: Sequence[str]) -> pl.DataFrame:
    """One row per policy: the share of sends it would have had answered.

    Policies are what was done, the best channel, and always one of `channels`.

    `trials` has one row per send and channel it could have gone out on, with
    `choice_probability` and `channel_propensity` as they were then, `is_chosen`, and
    `has_answered` of the send. `always_sms` means SMS wherever it was possible, else
    the best channel. Where too few sends count, the rates are null and `reason` is why.

    Raises:
        ValueError: if a send went out on no channel or several, or the probabilities of
            one do not sum to 1.
    """
    sums = trials.group_by("send_id").agg(
        chosen=pl.col("is_chosen").sum(), probability=pl.col("choice_probability").sum()
    )
    if not sums.filter(
        (pl.col("chosen") != 1) | ((pl.col("probability") - 1).abs() > 1e-6)
    ).is_empty():
        raise ValueError("trials hold a send without exactly one chosen channel")
    best = (
        pl.struct(-pl.col("choice_probability"), "channel")
        .rank("ordinal")
        .over("send_id")
        == 1
    )
    ranked = trials.sort("send_id", "channel").with_columns(is_best=best)
    policies = (LOGGED, BEST, *(f"always_{channel}" for channel in channels))
    return pl.DataFrame(
        [estimate(policy, wish(ranked, policy)) for policy in policies], schema=SCHEMA
    )


def wish(trials: pl.DataFrame, policy: str) -> pl.DataFrame:
    """With what probability the policy would have chosen each channel, as `wished`."""
    if policy == LOGGED:
        return trials.with_columns(wished=pl.col("choice_probability"))
    is_it = pl.col("channel") == policy.removeprefix("always_")
    return trials.with_columns(
        wished=pl.when(is_it.any().over("send_id"))
        .then(is_it)
        .otherwise("is_best")
        .cast(pl.Float64)
    )


def estimate(policy: str, trials: pl.DataFrame) -> dict[str, object]:
    """The three estimates of one policy, and how far to trust them."""
    chosen, wished = pl.col("is_chosen"), pl.col("wished")
    answered = pl.col("has_answered").cast(pl.Float64)
    sends = trials.group_by("send_id", maintain_order=True).agg(
        expected=(wished * pl.col("channel_propensity")).sum(),
        weight=(wished / pl.col("choice_probability")).filter(chosen).sum(),
        answered=answered.filter(chosen).sum(),
        surprise=(answered - pl.col("channel_propensity")).filter(chosen).sum(),
    )
    weight, count = sends["weight"], sends.height
    squares = float((weight**2).sum())
    effective = float(weight.sum()) ** 2 / squares if squares > 0 else 0.0
    estimate: dict[str, object] = {
        "policy": policy,
        "send_count": count,
        "effective_send_count": round(effective, 1),
    }
    if effective < MIN_SENDS:
        return estimate | {"reason": "too_few_sends"}
    robust = sends["expected"] + weight * sends["surprise"]
    rate = float(robust.mean())  # type: ignore[arg-type]
    margin = QUANTILE * float(robust.std()) / count**0.5  # type: ignore[arg-type]
    weighted = float((weight * sends["answered"]).sum())
    return estimate | {
        "answer_rate": round(min(max(rate, 0.0), 1.0), 6),
        "answer_rate_low": round(max(rate - margin, 0.0), 6),
        "answer_rate_high": round(min(rate + margin, 1.0), 6),
        "inverse_propensity_rate": round(weighted / count, 6),
        "self_normalized_rate": round(weighted / float(weight.sum()), 6),
    }
