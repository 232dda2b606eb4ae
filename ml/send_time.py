"""When each profile engages: two-hour slots on its own clock, by weekday group.

The same empirical Bayes as for channels, with a slot in the place of an answer: a
profile starts from when everybody engages, tilted by what it does on the other group
of days, and moves as far as its own engagements carry. When a message *may* go is
decided elsewhere.
"""

import numpy as np
import polars as pl
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

WEEKDAY_GROUPS = ("weekday", "weekend")
SLOTS = 12
#: slots of each weekday group that are kept of a profile
BEST_SLOTS = 3
# Bounds on how many engagements what is usual weighs for one profile.
MIN_STRENGTH = 1.0
MAX_STRENGTH = 1_000.0
# The strength is estimated from so many profiles as well as from all.
LEARNED_FROM = 20_000

SCHEMA = {
    "profile_id": pl.String,
    "weekday_group": pl.String,
    "slot": pl.Int64,
    "slot_rank": pl.Int64,
    "send_time_propensity": pl.Float64,
    "engagement_weight": pl.Float64,
}

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def score_send_times(profile_ids: pl.Series, engagements: pl.DataFrame) -> pl.DataFrame:
    """One row per profile, weekday group and each of its best slots, best first.

    The propensity is the share of the profile's engagements in that group of days that
    fall into the slot: over all twelve slots they sum to one. Profiles that never
    engaged get everybody's slots.

    Raises:
        ValueError: if a profile comes twice, or twice in one slot.
    """
    profiles = pl.DataFrame({"profile_id": profile_ids}, {"profile_id": pl.String})
    if profiles["profile_id"].is_duplicated().any():
        raise ValueError("profiles hold two rows of one profile_id")
    profiles = profiles.sort("profile_id")
    counts = spread_engagements(profiles, engagements)
    shares = share_send_times(counts)
    best = np.argsort(-shares, axis=2, kind="stable")[:, :, :BEST_SLOTS]
    names = np.repeat(np.arange(profiles.height), len(WEEKDAY_GROUPS) * BEST_SLOTS)
    groups = np.tile(
        np.repeat(np.arange(len(WEEKDAY_GROUPS)), BEST_SLOTS), profiles.height
    )
    ranks = np.tile(np.arange(1, BEST_SLOTS + 1), profiles.height * len(WEEKDAY_GROUPS))
    return pl.DataFrame(
        {
            "profile_id": profiles["profile_id"].gather(names),
            "weekday_group": pl.Series(WEEKDAY_GROUPS).gather(groups),
            "slot": best.ravel(),
            "slot_rank": ranks,
            "send_time_propensity": np.take_along_axis(shares, best, axis=2)
            .ravel()
            .round(6),
            "engagement_weight": np.repeat(counts.sum(axis=2).ravel(), BEST_SLOTS),
        }
    ).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def spread_engagements(profiles: pl.DataFrame, engagements: pl.DataFrame) -> Floats:
    """The weights of engagements: profiles × weekday groups × slots."""
    placed = engagements.join(profiles.with_row_index("row"), on="profile_id").join(
        pl.DataFrame({"weekday_group": WEEKDAY_GROUPS}).with_row_index("group"),
        on="weekday_group",
    )
    if placed.select("row", "group", "slot").is_duplicated().any():
        raise ValueError("engagements hold two rows of one profile and slot")
    counts = np.zeros((profiles.height, len(WEEKDAY_GROUPS), SLOTS))
    counts[
        placed["row"].to_numpy(), placed["group"].to_numpy(), placed["slot"].to_numpy()
    ] = placed["engagement_weight"].to_numpy()
    return counts


def share_send_times(counts: Floats) -> Floats:
    """Each profile's share of every slot, per weekday group."""
    usual = counts.sum(axis=0) + 1
    usual /= usual.sum(axis=1, keepdims=True)
    shares = np.empty_like(counts)
    for group in range(len(WEEKDAY_GROUPS)):
        other = 1 - group
        from_others = shrink(counts[:, other], np.tile(usual[other], (len(counts), 1)))
        prior = usual[group] * from_others / usual[other]
        prior /= prior.sum(axis=1, keepdims=True)
        shares[:, group] = shrink(counts[:, group], prior)
    return shares


def shrink(counts: Floats, prior: Floats) -> Floats:
    """Shares that lean on the prior as much as profiles are alike."""
    strength = fit_strength(counts, prior)
    totals = counts.sum(axis=1, keepdims=True)
    shares: Floats = (counts + strength * prior) / (totals + strength)
    return shares


def fit_strength(counts: Floats, prior: Floats) -> float:
    """What the prior weighs, by maximum likelihood of the Dirichlet-multinomial."""
    learned = np.flatnonzero(counts.sum(axis=1) > 0)[:LEARNED_FROM]
    if len(learned) == 0:
        return MAX_STRENGTH
    seen, expected = counts[learned], prior[learned]
    row, slot = np.nonzero(seen)
    hits, shares, totals = seen[row, slot], expected[row, slot], seen.sum(axis=1)

    def loss(log_strength: float) -> float:
        strength = np.exp(log_strength)
        return float(
            (gammaln(strength + totals) - gammaln(strength)).sum()
            - (gammaln(strength * shares + hits) - gammaln(strength * shares)).sum()
        )

    found = minimize_scalar(
        loss,
        bounds=(np.log(MIN_STRENGTH), np.log(MAX_STRENGTH)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(found.x))
