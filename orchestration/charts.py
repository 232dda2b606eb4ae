"""How tables look in the Dagster UI: a chart and a table as Markdown metadata.

Shows counts and sums only: no query here may select an email or a phone number.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl
import vl_convert

from orchestration.labels import Labels
from orchestration.warehouse import Connection, fetch_frame

BRAND = "#d9480f"
WIDTH = 520
TABLE_ROWS = 20
NOT_XML = r"[^\t\n\r\x20-\x{D7FF}\x{E000}-\x{FFFD}\x{10000}-\x{10FFFF}]"
"""Characters that no SVG can hold; drawing one would end the process."""


@dataclass(frozen=True)
class Portrait:
    """One query, shown as a table and as bars of `value` by `label`."""

    title: str
    query: str
    label: str
    value: str
    series: str | None = None
    if_empty: str | None = None
    """Why there may be none, and the mend."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What columns name, which is shown by its label."""


def chart_metadata(address: str, connection: Connection) -> dict[str, Any]:
    """The chart and table metadata of a warehouse table; empty where none is set.

    Where there are no rows a sentence may say why; without a value there is no chart.
    """
    portrait = CHARTS.get(address)
    if portrait is None:
        return {}
    frame = fetch_frame(connection, portrait.query)
    if frame.is_empty() and portrait.if_empty:
        return {"table": dg.MetadataValue.md(portrait.if_empty)}
    frame = Labels.read(connection).relabel(frame, portrait.kinds)
    table = {"table": markdown_table(frame)}
    if 0 < frame.height == frame[portrait.value].null_count():
        return table
    return table | {
        "chart": bar_chart(
            frame,
            title=portrait.title,
            label=portrait.label,
            value=portrait.value,
            series=portrait.series,
        ),
    }


def bar_chart(
    frame: pl.DataFrame,
    *,
    title: str,
    label: str,
    value: str,
    series: str | None = None,
) -> dg.MarkdownMetadataValue:
    """Horizontal bars of `value` by `label`, grouped by `series` where given."""
    names = [label, *([series] if series else [])]
    grouped = {"color": nominal(series), "yOffset": nominal(series)} if series else {}
    return draw_chart(
        frame.select(pl.col(names).cast(pl.String), pl.col(value).cast(pl.Float64)),
        title=title,
        mark={"type": "bar"},
        encoding={
            "x": quantity(value),
            "y": {**nominal(label), "sort": None, "title": None},
            **grouped,
        },
    )


def line_chart(
    frame: pl.DataFrame, *, title: str, x: str, y: str, series: str | None = None
) -> dg.MarkdownMetadataValue:
    """A line of `y` over the number `x`, one for each `series` where given."""
    names = [series] if series else []
    return draw_chart(
        frame.select(pl.col(names), pl.col(x, y).cast(pl.Float64)),
        title=title,
        mark={"type": "line", "point": True},
        encoding={
            "x": quantity(x),
            "y": quantity(y),
            **({"color": nominal(series)} if series else {}),
        },
    )


def nominal(column: str) -> dict[str, Any]:
    """A Vega-Lite channel of names."""
    return {"field": column, "type": "nominal"}


def quantity(column: str) -> dict[str, Any]:
    """A Vega-Lite channel of numbers, titled in words."""
    title = column.replace("_", " ")
    return {"field": column, "type": "quantitative", "title": title}


def draw_chart(
    frame: pl.DataFrame, *, title: str, mark: dict[str, Any], encoding: dict[str, Any]
) -> dg.MarkdownMetadataValue:
    """A chart as an inline SVG image, which the UI shows without any network."""
    chart = {
        "data": {"values": drawable(frame)},
        "title": title,
        "width": WIDTH,
        "mark": {**mark, "color": BRAND},
        "encoding": encoding,
    }
    svg = vl_convert.vegalite_to_svg(chart)
    encoded = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{encoded})")


def drawable(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, without what no SVG can hold."""
    return frame.with_columns(
        pl.col(pl.String).str.replace_all(NOT_XML, "\ufffd")
    ).to_dicts()


def markdown_table(frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """The first rows of a frame as a Markdown table."""
    rows = [
        "| " + " | ".join(frame.columns) + " |",
        "|" + "---|" * frame.width,
        *(
            "| " + " | ".join(map(table_cell, row)) + " |"
            for row in frame.head(TABLE_ROWS).iter_rows()
        ),
    ]
    return dg.MetadataValue.md("\n".join(rows))


def table_cell(value: object) -> str:
    """A value within one cell, whatever it holds."""
    text = "" if value is None else " ".join(str(value).split())
    return text.replace("|", "\\|")


NO_CONVERSIONS = (
    "No order counts as a conversion: none has landed whose person is known, or all "
    "were cancelled or refunded. Land `Order Completed` events."
)
NO_TOUCHES = (
    "No touch is known: land what your tools report of messages (`Email Delivered`, …) "
    "and page views with `context.campaign` or a click id in their URL."
)
NO_CREDITS = f"Nothing is credited to a channel. {NO_CONVERSIONS} {NO_TOUCHES}"

CHARTS = {
    "identity.identity_map": Portrait(
        title="Profiles by number of identifiers",
        query="""
            with sizes as (
                select profile_id, count(*) as size
                from identity.identity_map group by profile_id
            )
            select
                case
                    when size <= 10 then cast(size as varchar)
                    else 'to ' || cast(pow(2, ceil(log2(size))) as bigint)
                end as identifiers,
                count(*) as profile_count,
                sum(size) as identifier_count
            from sizes group by all order by min(size)
        """,
        label="identifiers",
        value="profile_count",
    ),
    "identity.identity_merges": Portrait(
        title="Profiles merged, renamed and split, by run",
        query="""
            select merged_at as run, change, count(*) as profile_count
            from identity.identity_merges
            where merged_at in (
                select distinct merged_at from identity.identity_merges
                order by merged_at desc limit 20
            )
            group by all order by run desc, change
        """,
        label="run",
        value="profile_count",
        series="change",
    ),
    "identity.identity_conflicts": Portrait(
        title="Largest conflicts",
        query="""
            select
                left(identity_map.profile_id, 8) as of_profile,
                conflicts.identifier_type,
                conflicts.reason,
                conflicts.reason_detail,
                count(*) as refused_links,
                max(conflicts.last_seen_at) as last_seen_at
            from identity.identity_conflicts as conflicts
            inner join identity.identity_map as identity_map
                using (identifier_type, identifier)
            group by all
            order by refused_links desc, of_profile
            limit 20
        """,
        label="of_profile",
        value="refused_links",
    ),
    "profiles.rfm": Portrait(
        title="Profiles by RFM segment",
        query="""
            select
                rfm_segment,
                count(*) as profile_count,
                round(avg(recency_days), 1) as mean_recency_days,
                round(avg(frequency), 2) as mean_frequency,
                sum(monetary_amount) as monetary_amount
            from profiles.rfm
            group by all order by profile_count desc, rfm_segment
        """,
        label="rfm_segment",
        value="profile_count",
        kinds={"rfm_segment": "segment"},
    ),
    "profiles.intents": Portrait(
        title="Profiles by intent",
        query="""
            select intent, count(*) as profile_count
            from profiles.intents
            group by all order by profile_count desc, intent
        """,
        label="intent",
        value="profile_count",
        kinds={"intent": "entry"},
    ),
    "profiles.overrides": Portrait(
        title="People by override and audience",
        query="""
            select
                stated.priority,
                stated.audience,
                stated.override || coalesce(' ' || stated.channel, '') as override,
                count(overrides.profile_id) as profile_count,
                stated.reason,
                stated.decided_by,
                stated.valid_from,
                stated.valid_until
            from profiles.stated_overrides as stated
            left join profiles.overrides as overrides
                on stated.priority = overrides.priority
            group by all order by stated.priority
        """,
        label="audience",
        value="profile_count",
        series="override",
    ),
    "decisions.phases": Portrait(
        title="Profiles by relationship phase",
        query="""
            select
                phase, phase_name, count(*) as profile_count,
                max(entered_at) as newest_entry_at
            from decisions.phases
            group by all order by phase
        """,
        label="phase_name",
        value="profile_count",
        kinds={"phase_name": "phase"},
    ),
    "decisions.enrollments": Portrait(
        title="Enrollments by journey",
        query="""
            select journey, state, count(*) as enrollment_count
            from decisions.enrollments
            group by all order by journey, state
        """,
        label="journey",
        value="enrollment_count",
        series="state",
        kinds={"journey": "journey"},
    ),
    "decisions.decisions": Portrait(
        title="Verdicts by reason",
        query="""
            select verdict, reason, count(*) as decision_count
            from decisions.decisions
            group by all order by decision_count desc, verdict, reason
        """,
        label="reason",
        value="decision_count",
        series="verdict",
        kinds={"verdict": "verdict", "reason": "reason"},
    ),
    "decisions.send_list": Portrait(
        title="Sends by journey step and channel",
        query="""
            select journey || ' / ' || step as journey_step, channel,
                count(*) as send_count
            from decisions.send_list
            group by all order by journey_step, channel
        """,
        label="journey_step",
        value="send_count",
        series="channel",
        kinds={"journey_step": "step", "channel": "channel"},
    ),
    "attribution.credits": Portrait(
        title="Credited revenue by attribution model",
        query="""
            select
                attribution_model,
                count(distinct conversion_id) as conversion_count,
                count(touchpoint_id) as touch_count,
                sum(revenue_amount) as revenue_amount
            from attribution.credits
            group by all order by attribution_model
        """,
        label="attribution_model",
        value="revenue_amount",
        if_empty=NO_CONVERSIONS,
        kinds={"attribution_model": "model"},
    ),
    "attribution.removal_effects": Portrait(
        title="Removal effect by channel and Markov order",
        query="""
            select channel, markov_order, round(removal_effect, 4) as removal_effect,
                round(share, 4) as share
            from attribution.removal_effects
            order by channel, markov_order
        """,
        label="channel",
        value="removal_effect",
        series="markov_order",
        if_empty=NO_TOUCHES,
        kinds={"channel": "channel"},
    ),
    "attribution.channel_performance": Portrait(
        title="Revenue by channel and attribution model",
        query="""
            select channel, attribution_model,
                round(conversion_count, 2) as conversion_count, revenue_amount
            from attribution.channel_performance
            where channel <> 'none'
            order by channel, attribution_model
        """,
        label="channel",
        value="revenue_amount",
        series="attribution_model",
        if_empty=NO_CREDITS,
        kinds={"channel": "channel", "attribution_model": "model"},
    ),
    "attribution.campaign_performance": Portrait(
        title="Campaigns by last-touch and Markov revenue",
        query="""
            select campaign, attribution_model,
                round(conversion_count, 2) as conversion_count, revenue_amount
            from attribution.campaign_performance
            where attribution_model in ('last_touch', 'markov')
                and campaign is not null
            order by revenue_amount desc, campaign, attribution_model
            limit 20
        """,
        label="campaign",
        value="revenue_amount",
        series="attribution_model",
        if_empty=NO_CONVERSIONS,
        kinds={"attribution_model": "model"},
    ),
    "attribution.policy_values": Portrait(
        title="Answers that other ways of choosing channels would have earned",
        query="""
            select policy, round(answer_rate, 4) as answer_rate,
                round(answer_rate_low, 4) as answer_rate_low,
                round(answer_rate_high, 4) as answer_rate_high,
                send_count, effective_send_count, reason
            from attribution.policy_values
            order by answer_rate desc nulls last, policy
        """,
        label="policy",
        value="answer_rate",
    ),
    "attribution.lift": Portrait(
        title="Incremental lift by journey",
        query="""
            select journey, treated_count, control_count,
                round(conversion_rate_treated, 4) as conversion_rate_treated,
                round(conversion_rate_control, 4) as conversion_rate_control,
                round(incremental_lift, 4) as incremental_lift,
                round(lift_low, 4) as lift_low, round(lift_high, 4) as lift_high,
                finding,
                incremental_revenue_amount, attributed_revenue_amount,
                round(minimal_detectable_lift, 4) as minimal_detectable_lift,
                still_needed_count, waiting_count, unwritten_count, unknown_reason
            from attribution.lift order by journey
        """,
        label="journey",
        value="incremental_lift",
        kinds={
            "journey": "journey",
            "finding": "finding",
            "unknown_reason": "lift_reason",
        },
    ),
    "attribution.experiment_lift": Portrait(
        title="Incremental lift by experiment, arm and metric",
        query="""
            select experiment || ': ' || variation || ', ' || metric as arm,
                treated_count, control_count,
                round(mean_treated, 4) as mean_treated,
                round(mean_control, 4) as mean_control,
                round(incremental_lift, 4) as incremental_lift,
                round(lift_low, 4) as lift_low, round(lift_high, 4) as lift_high,
                finding,
                round(minimal_detectable_lift, 4) as minimal_detectable_lift,
                still_needed_count, waiting_count, excluded_count, unknown_reason
            from attribution.experiment_lift order by experiment, variation, metric
        """,
        label="arm",
        value="incremental_lift",
        if_empty=(
            "No experiment is known: land `Experiment Viewed` events with "
            "`experiment_id` and `variation_id`, and name the control in the seed "
            "`experiments`."
        ),
        kinds={"finding": "finding", "unknown_reason": "lift_reason"},
    ),
}
