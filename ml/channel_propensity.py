"""Through which channel each profile answers: shrunk towards the channel's average.

Beta-binomial empirical Bayes (Efron, Morris 1975): a profile's rate of answered
messages counts as much as its history is long. Machine opens never get here; human
opens are no answer. Which channel is *allowed* is decided elsewhere.
"""

from collections.abc import Sequence

import polars as pl

CHANNELS = (
    "email",
    "sms",
    "push",
    "in_app",
    "onsite",
    "paid_retargeting",
    "direct_mail",
)

# A channel nobody was reached on yet starts at one answer in twenty messages; twenty
# is also what that guess weighs against the messages that do arrive.
GUESSED_RATE = 0.05
GUESSED_STRENGTH = 20.0
# Bounds on how many messages a channel's average weighs for one profile: below, one
# click would decide; above, no history could.
LEAST_STRENGTH = 2.0
MOST_STRENGTH = 1_000.0

SCHEMA = {
    "profile_id": pl.String,
    "channel": pl.String,
    "channel_propensity": pl.Float64,
    "delivered_count": pl.Int64,
    "engaged_count": pl.Int64,
    "channel_rate": pl.Float64,
    "prior_strength": pl.Float64,
}


def score_channels(
    profile_ids: Sequence[str] | pl.Series, engagements: pl.DataFrame
) -> pl.DataFrame:
    """One row per profile and channel, for every profile on all seven channels.

    The propensity is the chance that a delivered message is answered. Profiles
    without history on a channel get its average, so that nobody is left out of a
    comparison; whether the channel reaches them is not asked here.

    Raises:
        ValueError: if a profile comes twice, or twice on one channel.
    """
    profiles = pl.DataFrame({"profile_id": profile_ids}, {"profile_id": pl.String})
    if profiles["profile_id"].is_duplicated().any():
        raise ValueError("profiles hold two rows of one profile_id")
    if engagements.select(
        pl.struct("profile_id", "channel").is_duplicated().any()
    ).item():
        raise ValueError("engagements hold two rows of one profile_id and channel")
    counted = count_trials(engagements)
    priors = fit_priors(counted).sort("channel")
    return (
        profiles.sort("profile_id")
        .join(priors, how="cross", maintain_order="left_right")
        .join(counted, on=["profile_id", "channel"], how="left", maintain_order="left")
        .with_columns(pl.col("delivered_count", "engaged_count").fill_null(0))
        .with_columns(
            channel_propensity=(
                pl.col("engaged_count")
                + pl.col("channel_rate") * pl.col("prior_strength")
            )
            / (pl.col("delivered_count") + pl.col("prior_strength"))
        )
        .with_columns(pl.col("channel_propensity", "channel_rate").round(6))
        .select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    )


def count_trials(engagements: pl.DataFrame) -> pl.DataFrame:
    """Messages that arrived and those of them that were answered.

    On a channel that reports no delivery, what was sent counts as delivered. Several
    answers to one message cannot be told apart: never more answers than messages.
    """
    return (
        engagements.select(
            "profile_id",
            "channel",
            pl.col("engaged_count").cast(pl.Int64),
            pl.when(pl.col("delivered_count").sum().over("channel") > 0)
            .then(pl.col("delivered_count"))
            .otherwise(pl.col("sent_count"))
            .cast(pl.Int64)
            .alias("delivered_count"),
        )
        .with_columns(
            delivered_count=pl.when(pl.col("engaged_count") > 0)
            .then(pl.max_horizontal("delivered_count", 1))
            .otherwise("delivered_count")
        )
        .with_columns(
            engaged_count=pl.min_horizontal("engaged_count", "delivered_count")
        )
        .filter(pl.col("delivered_count") > 0)
        .sort("channel", "profile_id")
    )


def fit_priors(counted: pl.DataFrame) -> pl.DataFrame:
    """One row per channel: its average rate and what that weighs, in messages.

    What the average weighs follows from how alike two messages to one profile end
    beyond chance: the intraclass correlation `alike`, by moments (Kleinman 1973), where
    strength = 1 / alike - 1. Its sampling variance is about two over the number of
    ordered pairs of such messages; the guess enters with a spread of its own size, so
    that a channel with few repeated messages stays near it.
    """
    delivered, engaged = pl.col("delivered_count"), pl.col("engaged_count")
    rate = engaged.sum() / delivered.sum()
    sums = counted.group_by("channel").agg(
        delivered=delivered.sum(),
        engaged=engaged.sum(),
        pairs=(delivered * (delivered - 1)).sum(),
        # Pairs of messages to one profile, by how far both ended from the average.
        agreement=(
            (engaged - delivered * rate).pow(2)
            - engaged * (1 - rate).pow(2)
            - (delivered - engaged) * rate.pow(2)
        ).sum(),
        variance=rate * (1 - rate),
    )
    guessed = 1 / (1 + GUESSED_STRENGTH)
    seen = pl.when(pl.col("variance") > 0).then(
        pl.col("agreement") / pl.col("variance")
    )
    alike = (seen / 2 + 1 / guessed) / (pl.col("pairs") / 2 + 1 / guessed**2)
    return (
        pl.DataFrame({"channel": CHANNELS})
        .join(sums, on="channel", how="left")
        .select(
            "channel",
            (
                (pl.col("engaged").fill_null(0) + GUESSED_RATE * GUESSED_STRENGTH)
                / (pl.col("delivered").fill_null(0) + GUESSED_STRENGTH)
            ).alias("channel_rate"),
            (
                1
                / alike.fill_null(guessed).clip(
                    1 / (1 + MOST_STRENGTH), 1 / (1 + LEAST_STRENGTH)
                )
                - 1
            )
            .round(6)
            .alias("prior_strength"),
        )
    )
