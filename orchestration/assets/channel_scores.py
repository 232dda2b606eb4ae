"""Through which channel and at which hours each profile answers.

Reads what messages met with and when people engage, lets `ml` score it, writes the `ml`
tables. `ml` is imported by what scores, as in `score`.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from activations.registry import CHANNELS
from orchestration.assets.score import asset_spec, result_of
from orchestration.charts import bar_chart, markdown_table
from orchestration.resources import Home
from orchestration.warehouse import fetch_frame, replace_table

CHANNEL_FEATURES = """
    select channel_features.*
    from profiles.channel_features
    anti join (from profiles.overrides where override = 'never_score')
        using (profile_id)
"""

CHANNEL_SCORES = {
    "profile_id": ("varchar", "The profile."),
    "channel": ("varchar", "The channel, reachable or not."),
    "channel_propensity": (
        "double",
        "Probability that a delivered message is answered: by a click, a tap, or a "
        "session that names its campaign.",
    ),
    "prior_propensity": ("double", "The same as profiles like it answer."),
    "prior_strength": ("double", "How many messages that weighs."),
    "channel_rate": ("double", "The channel's average."),
    "delivered_count": ("bigint", "Messages delivered to the profile there."),
    "engaged_count": ("bigint", "Those of them that were answered."),
}
SEND_TIME_SCORES = {
    "profile_id": ("varchar", "The profile."),
    "weekday_group": ("varchar", "`weekday` or `weekend`, on the profile's clock."),
    "slot": ("bigint", "Two hours of the day: 0 from midnight to 11 from 22 o'clock."),
    "slot_rank": ("bigint", "1 for the best slot of the group; three are kept."),
    "send_time_propensity": (
        "double",
        "Share of its engagements in this group of days that fall into the slot.",
    ),
    "engagement_weight": ("double", "Engagements of the profile in this group."),
}


@dg.multi_asset(
    name="channel_scores",
    specs=[
        asset_spec(
            "channel_scores",
            "One row per profile and channel: how likely a message there is answered. "
            "Short histories lean on what profiles like it do.",
            CHANNEL_SCORES,
            ("channel_features", "channel_engagements", "overrides"),
        ),
        asset_spec(
            "send_time_scores",
            "One row per profile, weekday group and each of its three best two-hour "
            "slots: when it engages. Short histories lean on everybody's hours.",
            SEND_TIME_SCORES,
            ("channel_features", "send_time_engagements", "overrides"),
        ),
    ],
)
def channel_scores(
    context: dg.AssetExecutionContext, home: Home
) -> Iterator[dg.MaterializeResult[None]]:
    """Score everybody's channels and send times, write the `ml` tables."""
    from ml import channel_propensity, send_time

    with home.warehouse.connect(read_only=True) as connection:
        profiles = fetch_frame(connection, CHANNEL_FEATURES)
        messages = fetch_frame(connection, "select * from profiles.channel_engagements")
        hours = fetch_frame(connection, "select * from profiles.send_time_engagements")
    channel_scores = channel_propensity.score_channels(
        profiles, messages, sorted(CHANNELS)
    )
    send_time_scores = send_time.score_send_times(profiles["profile_id"], hours)
    with home.warehouse.connect() as connection:
        replace_table(connection, "ml.channel_scores", channel_scores)
        replace_table(connection, "ml.send_time_scores", send_time_scores)
    home.record(context)
    for name, scores, describe in (
        ("channel_scores", channel_scores, describe_channels),
        ("send_time_scores", send_time_scores, describe_send_times),
    ):
        yield result_of(name, scores, describe(scores))


def describe_channels(channel_scores: pl.DataFrame) -> dict[str, Any]:
    """How readily each channel is answered, and how far profiles differ."""
    return {
        "table": markdown_table(
            channel_scores.group_by("channel")
            .agg(
                pl.col("delivered_count", "engaged_count").sum(),
                pl.col("channel_rate").first().round(4),
                pl.col("prior_strength").first().round(1),
                lowest_prior=pl.col("prior_propensity").min().round(4),
                highest_prior=pl.col("prior_propensity").max().round(4),
                lowest=pl.col("channel_propensity").min().round(4),
                highest=pl.col("channel_propensity").max().round(4),
            )
            .sort("channel")
        )
    }


def describe_send_times(send_time_scores: pl.DataFrame) -> dict[str, Any]:
    """At which hours most profiles are at their best."""
    best = (
        send_time_scores.filter(pl.col("slot_rank") == 1)
        .group_by("weekday_group", "slot")
        .agg(
            profile_count=pl.len(),
            mean_propensity=pl.col("send_time_propensity").mean().round(4),
        )
        .sort("weekday_group", "slot")
        .with_columns(
            hours=pl.format("{}–{} h", pl.col("slot") * 2, pl.col("slot") * 2 + 2)
        )
    )
    return {
        "table": markdown_table(best),
        "chart": bar_chart(
            best,
            title="Profiles by their best two hours",
            label="hours",
            value="profile_count",
            series="weekday_group",
        ),
    }
