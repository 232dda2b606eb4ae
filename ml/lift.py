"""What an arm of a trial caused beside its control, and how sure that is.

Works on counts and sums of arms; it does not decide who counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import chi2, norm, t

Floats = NDArray[np.float64]

# Beyond this many decimals a float is noise that differs from one machine to another.
DECIMALS = 12

# each metric, and what credits say was earned of it
METRICS = {
    "visit": "attributed_visit_count",
    "conversion": "attributed_conversion_count",
    "spend": "attributed_revenue_amount",
}

# what a comparison without these numbers leaves open
READINGS = (
    *("incremental_lift", "lift_low", "lift_high"),
    *("always_valid_low", "always_valid_high"),
    *("adjusted_lift", "adjusted_low", "adjusted_high"),
    *("incremental_amount", "still_needed_count"),
)


@dataclass(frozen=True)
class LiftRules:
    """How sure a reading has to be.

    `z_score` stands for the confidence of every interval, `power` for the chance to
    prove a lift that is as large as `minimal_detectable_lift`. The always-valid
    interval is at its best near `tuning_count` profiles. Counts of arms that chance
    brings about less often than `smallest_ratio_p_value` stop the reading.
    """

    z_score: float = 1.959964
    power: float = 0.8
    tuning_count: int = 5000
    smallest_ratio_p_value: float = 0.001

    @property
    def alpha(self) -> float:
        """The chance that an interval misses."""
        return float(2 * norm.sf(self.z_score))


def compare_arms(arms: pl.DataFrame, rules: LiftRules) -> pl.DataFrame:
    """One row per arm that is not its trial's control, and metric.

    Shares (`visit`, `conversion`) have Newcombe's hybrid score interval (1998, method
    10), `spend` Welch's (1947). `adjusted_*` is the lift in spend after taking off what
    spend before the trial foretold of it (CUPED: Deng et al., 2013). `always_valid_*`
    holds however often it is looked at (Waudby-Smith et al., 2023, equation 9).
    """
    trial = ["trial_type", "trial"]
    arms = arms.sort(*trial, "arm").join(
        _sample_ratios(arms, trial), on=trial, how="left", maintain_order="left"
    )
    treated = arms.filter(~pl.col("is_control"))
    pairs = treated.join(
        arms.filter("is_control").drop("sample_ratio_p_value"),
        on=trial,
        how="left",
        suffix="_control",
        maintain_order="left",
    )
    return (
        pl.concat(_compare(pairs, metric, rules) for metric in METRICS)
        .with_columns(
            unknown_reason=pl.when(pl.col("control_count") == 0)
            .then(pl.lit("no_control_group"))
            .when(pl.col("sample_ratio_p_value") < rules.smallest_ratio_p_value)
            .then(pl.lit("sample_ratio_mismatch"))
        )
        .with_columns(
            pl.when(pl.col("unknown_reason").is_null()).then(pl.col(READINGS))
        )
        .with_columns(
            finding=pl.when(pl.col("lift_low") > 0)
            .then(pl.lit("more"))
            .when(pl.col("lift_high") < 0)
            .then(pl.lit("less"))
            .when(pl.col("incremental_lift").is_not_null())
            .then(pl.lit("not_proved"))
        )
        .with_columns(
            incremental_share=pl.col("incremental_amount")
            / pl.when(pl.col("attributed_amount") != 0).then(
                pl.col("attributed_amount")
            )
        )
        .with_columns(pl.selectors.float().round(DECIMALS))
    )


def _sample_ratios(arms: pl.DataFrame, trial: list[str]) -> pl.DataFrame:
    """How often chance alone deals arms as unequal as these: Pearson's chi-squared."""
    expected = (
        pl.col("expected_share")
        / pl.col("expected_share").sum()
        * pl.col("profile_count").sum()
    )
    distances = arms.group_by(trial).agg(
        distance=((pl.col("profile_count") - expected) ** 2 / expected).sum(),
        freedom=pl.len() - 1,
        is_expected=pl.col("expected_share").is_not_null().all(),
    )
    p_value = chi2.sf(distances["distance"].to_numpy(), distances["freedom"].to_numpy())
    return distances.select(
        *trial,
        sample_ratio_p_value=pl.when(
            pl.col("is_expected") & (pl.col("freedom") > 0)
        ).then(pl.Series(p_value)),
    )


def _compare(pairs: pl.DataFrame, metric: str, rules: LiftRules) -> pl.DataFrame:
    """The comparisons of one metric."""
    sides = [_side(pairs, metric, suffix) for suffix in ("", "_control")]
    treated, control = sides
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = treated.mean - control.mean
        error = np.sqrt(treated.squared_error + control.squared_error)
        margin = error * t.ppf(norm.cdf(rules.z_score), _freedom(treated, control))
        low, high = lift - margin, lift + margin
        if metric != "spend":
            low, high = _newcombe(treated, control, rules.z_score)
        everybody = treated.count + control.count
        # arms in which all did alike show nothing of how they vary
        always = np.where(error > 0, error, np.nan) * _always_valid_factor(
            everybody, rules
        )
        always_low, always_high = (
            np.minimum(lift - always, low),
            np.maximum(lift + always, high),
        )
        detectable = _possible_error(treated, control, metric, rules.z_score) * (
            rules.z_score + norm.ppf(rules.power)
        )
        needed = np.ceil(everybody * (detectable / lift) ** 2) - everybody
        adjusted = [_nothing(lift)] * 3
        if metric == "spend":
            adjusted = _adjust(treated, control, rules)
    numbers = {
        "mean_treated": treated.mean,
        "mean_control": control.mean,
        "incremental_lift": lift,
        "lift_low": low,
        "lift_high": high,
        "always_valid_low": always_low,
        "always_valid_high": always_high,
        "adjusted_lift": adjusted[0],
        "adjusted_low": adjusted[1],
        "adjusted_high": adjusted[2],
        "minimal_detectable_lift": detectable,
        "still_needed_count": np.where(lift == 0, np.nan, needed.clip(0)),
        "incremental_amount": lift * treated.count,
    }
    return pairs.select(
        "trial_type",
        "trial",
        "arm",
        metric=pl.lit(metric),
        treated_count="profile_count",
        control_count=pl.col("profile_count_control").fill_null(0),
        sample_ratio_p_value="sample_ratio_p_value",
        attributed_amount=pl.col(METRICS[metric]).cast(pl.Float64),
        **{
            name: pl.Series(values, dtype=pl.Float64).fill_nan(None)
            for name, values in numbers.items()
        },
    )


@dataclass(frozen=True)
class Side:
    """One metric in one arm of each pair; nan where there is no such arm."""

    count: Floats
    mean: Floats
    variance: Floats
    prior_mean: Floats
    prior_variance: Floats
    covariance: Floats

    @property
    def squared_error(self) -> Floats:
        """The variance of the mean."""
        found: Floats = self.variance / self.count
        return found


def _side(pairs: pl.DataFrame, metric: str, suffix: str) -> Side:
    def column(name: str) -> Floats:
        return pairs[name + suffix].cast(pl.Float64).fill_null(np.nan).to_numpy()

    count = column("profile_count")
    if metric == "spend":
        return Side(
            count,
            column("revenue_mean"),
            column("revenue_variance"),
            column("prior_revenue_mean"),
            column("prior_revenue_variance"),
            column("revenue_covariance"),
        )
    rate = column(f"{metric}_rate")
    nothing = _nothing(rate)
    return Side(count, rate, rate * (1 - rate), nothing, nothing, nothing)


def _nothing(like: Floats) -> Floats:
    return np.full_like(like, np.nan)


def _possible_error(treated: Side, control: Side, metric: str, z: float) -> Floats:
    """The standard error to plan with; a share of 0 or 1 is taken for one near it."""
    squares = [side.squared_error for side in (treated, control)]
    if metric != "spend":
        squares = [
            share * (1 - share) / side.count
            for side in (treated, control)
            for share in [(side.mean * side.count + z * z / 2) / (side.count + z * z)]
        ]
    error = np.sqrt(squares[0] + squares[1])
    return np.where(error > 0, error, np.nan)


def _freedom(treated: Side, control: Side) -> Floats:
    """Welch's degrees of freedom."""
    one, other = treated.squared_error, control.squared_error
    return (one + other) ** 2 / (
        one**2 / (treated.count - 1) + other**2 / (control.count - 1)
    )


def _newcombe(treated: Side, control: Side, z: float) -> tuple[Floats, Floats]:
    lift = treated.mean - control.mean
    (l1, u1), (l2, u2) = _wilson(treated, z), _wilson(control, z)
    return (
        lift - np.hypot(treated.mean - l1, u2 - control.mean),
        lift + np.hypot(u1 - treated.mean, control.mean - l2),
    )


def _wilson(side: Side, z: float) -> tuple[Floats, Floats]:
    """Wilson's score interval, which holds for small groups and rates of 0 and 1."""
    centre = side.mean + z * z / (2 * side.count)
    spread = z * np.sqrt(
        side.mean * (1 - side.mean) / side.count + (z / side.count) ** 2 / 4
    )
    scale = 1 + z * z / side.count
    return (centre - spread) / scale, (centre + spread) / scale


def _always_valid_factor(everybody: Floats, rules: LiftRules) -> Floats:
    """By how many standard errors a lift may be off, at whatever time it is read."""
    alpha = rules.alpha
    rho_squared = (
        -2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))
    ) / rules.tuning_count
    spread = everybody * rho_squared + 1
    factor: Floats = np.sqrt(
        2 * spread * np.log(np.sqrt(spread) / alpha) / (everybody * rho_squared)
    )
    return factor


def _adjust(treated: Side, control: Side, rules: LiftRules) -> list[Floats]:
    """Lift in spend, and its interval, without what earlier spend foretold."""
    slope = _pooled(treated, control, "covariance") / _pooled(
        treated, control, "prior_variance"
    )
    # where nobody, or everybody alike, spent before, nothing is foretold
    slope = np.nan_to_num(slope, posinf=0, neginf=0)
    one, other = (
        Side(
            side.count,
            side.mean - slope * side.prior_mean,
            side.variance
            + slope**2 * side.prior_variance
            - 2 * slope * side.covariance,
            side.prior_mean,
            side.prior_variance,
            side.covariance,
        )
        for side in (treated, control)
    )
    lift = one.mean - other.mean
    error = np.sqrt(one.squared_error + other.squared_error)
    margin = error * t.ppf(norm.cdf(rules.z_score), _freedom(one, other))
    return [lift, lift - margin, lift + margin]


def _pooled(treated: Side, control: Side, what: str) -> Floats:
    """Covariance with, or variance of, earlier spend over both arms together."""
    gap = treated.prior_mean - control.prior_mean
    other_gap = gap if what == "prior_variance" else treated.mean - control.mean
    everybody = treated.count + control.count
    within = getattr(treated, what) * (treated.count - 1) + getattr(control, what) * (
        control.count - 1
    )
    between = gap * other_gap * treated.count * control.count / everybody
    pooled: Floats = (within + between) / (everybody - 1)
    return pooled
