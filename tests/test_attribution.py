"""Touches, paths and credits against separate computations and published examples."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise, permutations
from math import factorial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mam.core import MAM
from scipy.stats import ttest_ind

from ml import markov
from ml.markov import removal_effects
from orchestration.charts import chart_metadata
from orchestration.warehouse import Warehouse, replace_table
from tests.conftest import moment
from tests.resolving import run_dbt

RULE_MODELS = (
    *("first_touch", "last_touch", "linear", "position_based", "time_decay"),
    "shapley",
)
LOOKBACK = timedelta(days=30)
HALF_LIFE = timedelta(days=7)
SECOND = timedelta(seconds=1)
NEW_YEAR = moment("2024-01-01")


Paths = list[tuple[list[str], bool]]

some_paths = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9), st.booleans()
    ),
    min_size=1,
    max_size=20,
)


def counted(paths: Paths) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The paths as `attribution.path_counts` holds them, and the letters in them."""
    channels = sorted({channel for path, _ in paths for channel in path})
    # letters of one, two, three and four bytes
    letters = {name: chr(97 + 700 * n) for n, name in enumerate(channels)}
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, converts in paths:
        counts["".join(letters[channel] for channel in path)][not converts] += 1
    return pl.DataFrame(
        [(sequence, *count) for sequence, count in counts.items()],
        schema={
            "channel_sequence": pl.String,
            "conversion_count": pl.Int64,
            "non_conversion_count": pl.Int64,
        },
        orient="row",
    ), pl.DataFrame(
        list(letters.items()),
        schema={"channel": pl.String, "letter": pl.String},
        orient="row",
    )


def effects_of(paths: Paths, order: int) -> dict[str, float]:
    effects = removal_effects(*counted(paths), orders=[order])
    return dict(effects.select("channel", "removal_effect").iter_rows())


def conversion_rate(paths: Paths, order: int, without: str | None = None) -> float:
    """The chance to convert, by solving for all states of what was seen last."""
    leaving: dict[tuple[str, ...], Counter[Any]] = defaultdict(Counter)
    for channels, converts in paths:
        seen = [
            tuple(channels[max(0, n - order) : n]) for n in range(len(channels) + 1)
        ]
        for before, after in pairwise([*seen, converts]):
            is_lost = isinstance(after, tuple) and after[-1] == without
            leaving[before][False if is_lost else after] += 1
    index = {state: row for row, state in enumerate(leaving)}
    chain, constants = np.eye(len(index)), np.zeros(len(index))
    for before, row in index.items():
        total = leaving[before].total()
        for after, count in leaving[before].items():
            if isinstance(after, tuple):
                chain[row, index[after]] -= count / total
            else:
                constants[row] += after * count / total
    return float(np.linalg.solve(chain, constants)[index[()]])


def test_removal_effects_equal_the_published_example() -> None:
    # https://www.analyzecore.com/2016/08/03/attribution-model-r-part-1/
    paths = [(["C1", "C2", "C3"], True), (["C1"], False), (["C2", "C3"], False)]
    effects = removal_effects(*counted(paths), orders=[1])
    assert effects["channel"].to_list() == ["C1", "C2", "C3"]
    assert effects["removal_effect"].to_list() == pytest.approx([0.5, 1, 1])
    assert effects["share"].to_list() == pytest.approx([0.2, 0.4, 0.4])


@given(some_paths)
@settings(deadline=None, max_examples=60)
def test_removal_effects_equal_those_of_chains_without_the_channel(
    paths: Paths,
) -> None:
    effects = removal_effects(*counted(paths))
    for order, channel, effect in effects.drop("share").iter_rows():
        everybody = conversion_rate(paths, order)
        if everybody == 0:
            assert effect == 0
        else:
            lost = 1 - conversion_rate(paths, order, without=channel) / everybody
            assert effect == pytest.approx(lost, abs=1e-9)
    for _, shares in effects.group_by("markov_order"):
        known = shares["share"].drop_nulls()
        assert len(known) in (0, len(shares))
        assert len(known) == 0 or sum(known) == pytest.approx(1)


@given(some_paths)
@settings(deadline=None, max_examples=60)
def test_removal_effects_of_order_one_equal_those_of_another_library(
    paths: Paths,
) -> None:
    counts = Counter((" > ".join(path), converts) for path, converts in paths)
    frame = pl.DataFrame(
        [(*path, count) for path, count in counts.items()],
        schema=["path", "converts", "count"],
        orient="row",
    )
    found = MAM(
        frame,
        format_type="grouped_journey",
        channels_colname="path",
        journey_with_conv_colname="converts",
        occurrences_colname="count",
    ).run_markov()
    theirs = found.metadata["removal_effect"]["removal_effect"].to_dict()
    assert effects_of(paths, 1) == pytest.approx(theirs, abs=1e-9)


@given(some_paths)
@settings(deadline=None, max_examples=60)
def test_a_memory_of_whole_paths_counts_the_conversions_that_touch_a_channel(
    paths: Paths,
) -> None:
    converted = [set(channels) for channels, converts in paths if converts]
    longest = max(len(channels) for channels, _ in paths)
    for order in (longest, longest + 2):
        for channel, effect in effects_of(paths, order).items():
            touched = sum(channel in channels for channels in converted)
            share = touched / len(converted) if converted else 0
            assert effect == pytest.approx(share, abs=1e-12)


@given(some_paths)
@settings(deadline=None, max_examples=30)
def test_following_the_crowd_equals_inverting_the_chain(paths: Paths) -> None:
    inverted = removal_effects(*counted(paths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markov, "LARGEST_INVERTED_CHAIN", 0)
        followed = removal_effects(*counted(paths))
    assert followed["removal_effect"].to_list() == pytest.approx(
        inverted["removal_effect"].to_list(), abs=1e-11
    )


@given(st.randoms())
def test_removal_effects_do_not_depend_on_the_order_of_paths(
    dice: random.Random,
) -> None:
    paths = [(["a", "b", "a"], True), (["b", "c"], False), (["c", "a", "c"], True)]
    counts, letters = counted(paths)
    order = list(range(len(counts)))
    dice.shuffle(order)
    shuffled = removal_effects(counts[order], letters[order])
    assert shuffled.equals(removal_effects(counts, letters))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_channels_that_always_never_or_alone_convert_are_no_singular_chain(
    order: int,
) -> None:
    paths = [
        (["always"], True),
        (["always", "always"], True),
        (["never", "always"], True),
        (["never"], False),
        (["isolated"], True),
        (["loop"] * 500, False),
    ]
    assert effects_of(paths, order) == pytest.approx(
        {
            "always": 1 - conversion_rate(paths, order, "always") * 6 / 4,
            "never": 1 / 4,
            "isolated": 1 / 4,
            "loop": 0,
        }
    )


def test_where_no_path_converts_no_channel_has_an_effect_or_a_share() -> None:
    effects = removal_effects(*counted([(["email", "sms"], False), (["sms"], False)]))
    assert set(effects["removal_effect"]) == {0.0}
    assert effects["share"].null_count() == len(effects) == 8


def test_without_touches_there_are_no_removal_effects() -> None:
    assert removal_effects(*counted([])).is_empty()


def test_a_memory_that_would_take_minutes_is_left_out() -> None:
    paths = [([f"channel {number}"], True) for number in range(9)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markov, "LARGEST_INVERTED_CHAIN", 0)
        patch.setattr(markov, "LARGEST_FOLLOWED_CROWD", 0)
        assert set(removal_effects(*counted(paths))["markov_order"]) == {1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markov, "LARGEST_NUMBER", 10**3)
        assert set(removal_effects(*counted(paths))["markov_order"]) == {1, 2}


@dataclass
class Touch:
    """A touch as the oracle sees it; `name` says which one it is."""

    name: str
    profile: str
    channel: str
    at: datetime
    depth: int
    campaigns: set[str] = field(default_factory=set)


@dataclass
class RandomWorld:
    """Random messages, sessions and orders, as the layers below would hold them."""

    tables: dict[str, pl.DataFrame]
    touches: list[Touch]
    orders: list[dict[str, Any]]


# what happened to a message, hours later, and how likely
HAPPENINGS = (
    ("delivered", 1, 0.8),
    ("bounced", 2, 0.15),
    ("opened", 5, 0.4),
    ("clicked", 8, 0.2),
    ("unsubscribed", 9, 0.02),
)
CHANCES = {"email": 0.6, "sms": 0.2, "push": 0.2}
DEPTHS = {"delivered": 1, "unsubscribed": 1, "opened": 2, "clicked": 3}
SCHEMAS = {
    "staging.stg_run": {
        "as_of": pl.Datetime("us"),
        "is_newest": pl.Boolean,
        "lookback_days": pl.Int32,
        "base_currency": pl.String,
    },
    "staging.stg_journeys": {
        "journey": pl.String,
        "message_class": pl.String,
        "holdout_rate": pl.Float64,
    },
    "staging.stg_experiments": {
        "message_id": pl.String,
        "occurred_at": pl.Datetime("us"),
        "experiment_id": pl.String,
        "experiment_name": pl.String,
        "variation_id": pl.String,
        "variation_name": pl.String,
    },
    "staging.stg_message_events": {
        "message_id": pl.String,
        "occurred_at": pl.Datetime("us"),
        "channel": pl.String,
        "interaction": pl.String,
        "send_id": pl.String,
        "campaign_id": pl.String,
        "campaign_name": pl.String,
        "step": pl.String,
        "email_id": pl.String,
        "is_machine": pl.Boolean,
    },
    "staging.stg_orders": {
        "order_id": pl.String,
        "message_id": pl.String,
        "ordered_at": pl.Datetime("us"),
        "source": pl.String,
        "base_revenue_amount": pl.Decimal(18, 2),
        "is_conversion": pl.Boolean,
    },
    "identity.profile_events": {"message_id": pl.String, "profile_id": pl.String},
    "profiles.sessions": {
        "session_id": pl.String,
        "profile_id": pl.String,
        "started_at": pl.Datetime("us"),
        "ended_at": pl.Datetime("us"),
    },
    "profiles.session_campaigns": {
        "message_id": pl.String,
        "session_id": pl.String,
        "profile_id": pl.String,
        "occurred_at": pl.Datetime("us"),
        "campaign_name": pl.String,
        "campaign_id": pl.String,
        "campaign_medium": pl.String,
        "campaign_source": pl.String,
    },
    "profiles.rfm": {"profile_id": pl.String, "rfm_segment": pl.String},
    "profiles.profile_identifiers": {"profile_id": pl.String, "is_hub": pl.Boolean},
    "staging.stg_sends": {
        "send_id": pl.String,
        "enrollment_id": pl.String,
        "state": pl.String,
        "as_of": pl.Datetime("us"),
    },
    "decisions.decisions": {
        "enrollment_id": pl.String,
        "as_of": pl.Datetime("us"),
        "reason": pl.String,
        "is_withheld": pl.Boolean,
    },
    "decisions.send_choices": {
        "send_id": pl.String,
        "as_of": pl.Datetime("us"),
        "channel": pl.String,
        "choice_probability": pl.Float64,
        "channel_propensity": pl.Float64,
        "is_chosen": pl.Boolean,
    },
    "decisions.enrollments": {
        "enrollment_id": pl.String,
        "journey": pl.String,
        "profile_id": pl.String,
        "entered_at": pl.Datetime("us"),
        "assignment": pl.String,
    },
}


class WorldMaker:
    """Deals a world and, beside it, the touches that it must hold."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in SCHEMAS}
        self.touches: list[Touch] = []
        self.seen: set[str] = set()
        self.rows["staging.stg_run"] = [
            {"as_of": moment("2024-07-01"), "is_newest": True, "base_currency": "EUR"}
        ]

    def make(self) -> RandomWorld:
        for number in range(150):
            profile = f"p{number:03}"
            for message in range(self.dice.randrange(8)):
                self.send(profile, f"{profile}-{message}")
            for session in range(self.dice.randrange(4)):
                self.visit(profile, f"{profile}-visit-{session}")
            for order in range(self.dice.randrange(4)):
                self.buy(profile, f"{profile}-order-{order}", self.some_time())
            if number % 2:
                self.row("profiles.rfm", profile_id=profile, rfm_segment="loyal")
        self.enter_a_published_trial()
        self.show_an_experiment()
        tables = {
            table: pl.DataFrame(self.rows[table], schema=schema)
            for table, schema in SCHEMAS.items()
        }
        return RandomWorld(tables, self.touches, self.rows["staging.stg_orders"])

    def row(self, table: str, **values: Any) -> None:
        self.rows[table].append({**dict.fromkeys(SCHEMAS[table]), **values})

    def some_time(self) -> datetime:
        return NEW_YEAR + timedelta(
            microseconds=self.dice.randrange(86400 * 10**6 * 150)
        )

    def send(self, profile: str, name: str) -> None:
        """A message and what comes of it; push reports no delivery."""
        dice = self.dice
        channel = dice.choice(["email", "sms", "push"])
        is_ours = dice.random() < 0.5
        campaign = dice.choice(["spring", "summer"])
        # noon, so that all that happens to it happens on one day
        at = self.some_time().replace(hour=12)
        happened = {"sent": at} | {
            interaction: at + timedelta(hours=hours)
            for interaction, hours, chance in HAPPENINGS
            if dice.random() < chance
        }
        if channel == "push":
            happened.pop("delivered", None)
        if is_ours:
            self.draw_numbers(name, channel, at)
        is_machine = dice.random() < 0.3
        for interaction, happened_at in happened.items():
            self.event(
                profile,
                f"{name}-{interaction}",
                occurred_at=happened_at,
                channel=channel,
                interaction=interaction,
                send_id=name if is_ours else None,
                campaign_id=f"{campaign}-id",
                campaign_name=campaign,
                step="first" if is_ours else None,
                email_id=name,
                is_machine=interaction in {"opened", "clicked"} and is_machine,
            )
        if is_machine:
            happened.pop("opened", None)
            happened.pop("clicked", None)
        known = {
            interaction: DEPTHS[interaction]
            for interaction in happened
            if interaction in DEPTHS
        }
        if channel == "push":
            known["sent"] = 1
        depth = max(known.values(), default=0)
        if depth >= 2 or (depth == 1 and "bounced" not in happened):
            first = min(happened[interaction] for interaction in known)
            touch = Touch(name, profile, channel, first, depth)
            touch.campaigns = {campaign, f"{campaign}-id"}
            self.touches.append(touch)

    def draw_numbers(self, name: str, chosen: str, at: datetime) -> None:
        """What else the send might have gone out on."""
        self.row("staging.stg_sends", send_id=name, state="sent")
        for channel, chance in CHANCES.items():
            self.row(
                "decisions.send_choices",
                send_id=name,
                as_of=at,
                channel=channel,
                choice_probability=chance,
                channel_propensity=0.2,
                is_chosen=channel == chosen,
            )

    def visit(self, profile: str, name: str) -> None:
        """A session, from a campaign or not; its message, if any, is the touch."""
        campaign = self.dice.choice([None, "spring", "summer"])
        label = self.dice.choice(["{}", "{}", "{} ({}-id)", "{}-ID"])
        medium = self.dice.choice(["Email", "sms", None])
        at = self.some_time()
        self.row(
            "profiles.sessions",
            session_id=name,
            profile_id=profile,
            started_at=at,
            ended_at=at,
        )
        if campaign is None:
            return
        self.row(
            "profiles.session_campaigns",
            message_id=name,
            session_id=name,
            profile_id=profile,
            occurred_at=at,
            campaign_name=label.format(campaign.title(), campaign),
            campaign_medium=medium,
            campaign_source="partner",
        )
        channel = (medium or "partner").lower()
        answers = [
            touch
            for touch in self.touches
            if (touch.profile, touch.channel) == (profile, channel)
            and campaign in touch.campaigns
            and touch.at <= at <= touch.at + LOOKBACK
        ]
        if answers:
            max(answers, key=lambda touch: touch.at).depth = 4
        else:
            self.touches.append(Touch(name, profile, channel, at, 4))

    def buy(
        self, profile: str, name: str, at: datetime, *, simply: bool = False
    ) -> None:
        cents = self.dice.randrange(0, 50_000)
        has_rate = simply or self.dice.random() < 0.9
        self.row(
            "staging.stg_orders",
            order_id=name,
            message_id=name,
            ordered_at=at,
            source="online",
            base_revenue_amount=Decimal(cents) / 100 if has_rate else None,
            is_conversion=simply or self.dice.random() < 0.9,
        )
        self.row("identity.profile_events", message_id=name, profile_id=profile)

    def event(self, profile: str, message_id: str, **values: Any) -> None:
        self.row("staging.stg_message_events", message_id=message_id, **values)
        self.row("identity.profile_events", message_id=message_id, profile_id=profile)

    def enter_a_published_trial(self) -> None:
        """56 of 70 treated convert, 48 of 80 in control: Newcombe (1998), table II."""
        for arm, people, buyers in (("treated", 70, 56), ("holdout", 80, 48)):
            for number in range(people):
                profile = f"{arm}-{number}"
                self.row(
                    "decisions.enrollments",
                    enrollment_id=profile,
                    journey="trial",
                    profile_id=profile,
                    entered_at=NEW_YEAR,
                    assignment=arm,
                )
                if arm == "treated":
                    self.row(
                        "staging.stg_sends",
                        send_id=f"{profile}-send",
                        enrollment_id=profile,
                        state="sent",
                        as_of=NEW_YEAR,
                    )
                else:
                    self.row(
                        "decisions.decisions",
                        enrollment_id=profile,
                        as_of=NEW_YEAR,
                        reason=arm,
                        is_withheld=True,
                    )
                if number < buyers:
                    at = NEW_YEAR + timedelta(days=1 + number % 29)
                    self.buy(profile, f"{profile}-order", at, simply=True)

    def show_an_experiment(self) -> None:
        """Two arms and a control, of which some saw two; what came of it by chance."""
        dice = self.dice
        for number in range(1500):
            profile = f"subject-{number}"
            arm = dice.choice(["no", "mens", "womens"])
            at = NEW_YEAR + timedelta(seconds=dice.randrange(86400 * 20))
            self.see(profile, arm, at)
            if dice.random() < 0.05:
                self.see(profile, dice.choice(["mens", "no"]), at + HALF_LIFE)
            for visit in range(dice.randrange(3)):
                # some before the exposure, some after the horizon
                visited_at = at + timedelta(hours=dice.randrange(-24 * 40, 24 * 40))
                self.row(
                    "profiles.sessions",
                    session_id=f"{profile}-{visit}",
                    profile_id=profile,
                    started_at=visited_at,
                    ended_at=visited_at,
                )
                if dice.random() < (0.3 if arm == "no" else 0.5):
                    self.buy(profile, f"{profile}-{visit}", visited_at, simply=True)
        self.see("lonely", "blue", NEW_YEAR, experiment="uncontrolled")
        self.see("late", "blue", moment("2024-06-30"), experiment="young")
        self.see("later", "control", moment("2024-06-30"), experiment="young")

    def see(
        self, profile: str, variation: str, at: datetime, experiment: str = "mail"
    ) -> None:
        message_id = f"{profile}-sees-{variation}-{at}"
        if message_id in self.seen:
            return
        self.seen.add(message_id)
        self.row(
            "staging.stg_experiments",
            message_id=message_id,
            occurred_at=at,
            experiment_id=experiment,
            variation_id=variation,
        )
        self.row("identity.profile_events", message_id=message_id, profile_id=profile)


def attribute(world: RandomWorld, warehouse: Warehouse) -> None:
    """Build the attribution models, data tests included, on a world."""
    with warehouse.connect() as connection:
        for table, frame in world.tables.items():
            replace_table(connection, table, frame)
    run_dbt(
        warehouse.path,
        "build",
        *("--select", "message_threads", "path:models/attribution"),
        *("channel_rules", "lookback_windows", "attribution_rules", "reach_rules"),
        *("experiments", "experiment_shares", "decision_rules"),
        *("--indirect-selection", "cautious"),
        *("--exclude-resource-type", "unit_test"),
    )


@pytest.fixture(scope="module")
def world() -> RandomWorld:
    return WorldMaker(seed=20240101).make()


@pytest.fixture(scope="module")
def attributed(
    world: RandomWorld, tmp_path_factory: pytest.TempPathFactory
) -> Warehouse:
    warehouse = Warehouse(tmp_path_factory.mktemp("attribution") / "warehouse.duckdb")
    attribute(world, warehouse)
    return warehouse


def conversions(world: RandomWorld) -> Iterator[tuple[dict[str, Any], list[Touch]]]:
    """Each order that counts and the touches within look-back before it, in order."""
    profiles = {
        row["message_id"]: row["profile_id"]
        for row in world.tables["identity.profile_events"].iter_rows(named=True)
    }
    for order in world.orders:
        if order["is_conversion"]:
            at = order["ordered_at"]
            yield (
                order,
                sorted(
                    (
                        touch
                        for touch in world.touches
                        if touch.profile == profiles[order["message_id"]]
                        and touch.at <= at <= touch.at + LOOKBACK
                    ),
                    key=lambda touch: touch.at,
                ),
            )


def rule_weights(path: list[Touch], at: datetime) -> dict[str, list[float]]:
    """Each rule as its textbook states it."""
    count = len(path)
    middle = [0.2 / (count - 2)] * (count - 2) if count > 2 else []
    return {
        "first_touch": [1.0] + [0.0] * (count - 1),
        "last_touch": [0.0] * (count - 1) + [1.0],
        "linear": [1.0] * count,
        "position_based": [1.0] if count == 1 else [0.4, *middle, 0.4],
        "time_decay": [
            0.5 ** ((at - touch.at) // SECOND * SECOND / HALF_LIFE) for touch in path
        ],
        "shapley": [
            1 / sum(other.channel == touch.channel for other in path) for touch in path
        ],
    }


def led_nowhere(world: RandomWorld, claimed: set[str]) -> Iterator[list[str]]:
    """The channels of each run of unclaimed touches that look-back ties together."""
    unclaimed: dict[str, list[Touch]] = defaultdict(list)
    for touch in sorted(world.touches, key=lambda touch: touch.at):
        if touch.name not in claimed:
            unclaimed[touch.profile].append(touch)
    for touches in unclaimed.values():
        path = [touches[0].channel]
        for before, touch in pairwise(touches):
            if touch.at > before.at + LOOKBACK:
                yield path
                path = []
            path.append(touch.channel)
        yield path


def test_touchpoints_are_the_messages_and_sessions_that_reached_someone(
    world: RandomWorld, attributed: Warehouse
) -> None:
    expected = {
        (
            touch.profile,
            touch.channel,
            touch.at,
            ("", "delivered", "opened", "clicked", "session")[touch.depth],
        )
        for touch in world.touches
    }
    found = attributed.read(
        """
        select profile_id, channel, touched_at, interaction
        from attribution.touchpoints
        """
    )
    assert len(found) == len(world.touches)
    assert set(found.iter_rows()) == expected


def test_policies_are_told_from_the_answers_of_our_sends(
    world: RandomWorld, attributed: Warehouse
) -> None:
    sends = set(world.tables["decisions.send_choices"]["send_id"])
    answers = [t for t in world.touches if t.name in sends and t.depth >= 3]
    found = dict(
        attributed.read(
            "select policy, inverse_propensity_rate from attribution.policy_values"
        ).rows()
    )
    assert found["logged"] == pytest.approx(len(answers) / len(sends), abs=1e-6)
    for channel, chance in CHANCES.items():
        weight = sum(touch.channel == channel for touch in answers) / chance
        assert found[f"always_{channel}"] == pytest.approx(
            weight / len(sends), abs=1e-6
        )


def test_credits_equal_the_textbook_rules_and_the_chain(
    world: RandomWorld, attributed: Warehouse
) -> None:
    paths = list(conversions(world))
    claimed = {touch.name for _, path in paths for touch in path}
    walked = [([touch.channel for touch in path], True) for _, path in paths if path]
    walked += [(channels, False) for channels in led_nowhere(world, claimed)]
    assert attributed.read(
        "select * from attribution.removal_effects order by markov_order, channel"
    ).equals(removal_effects(*counted(walked)))

    effect_of = effects_of(walked, order=1)
    expected: dict[tuple[Any, ...], tuple[float, float | None]] = {}
    for order, path in paths:
        revenue = order["base_revenue_amount"]
        amount = None if revenue is None else float(revenue)
        weights = rule_weights(path, order["ordered_at"]) if path else {}
        weights["markov"] = [effect_of[touch.channel] for touch in path]
        for attribution_model in (*RULE_MODELS, "markov"):
            if not path:
                key = (order["order_id"], attribution_model, "none", None)
                expected[key] = 1.0, amount
            total = sum(weights.get(attribution_model, []))
            for touch, weight in zip(
                path, weights.get(attribution_model, []), strict=True
            ):
                key = (order["order_id"], attribution_model, touch.channel, touch.at)
                part = weight / total
                if part > 0:
                    expected[key] = part, None if amount is None else part * amount

    found = attributed.read(
        """
        select
            conversions.order_id, credits.attribution_model, credits.channel,
            touchpoints.touched_at, credits.credit, credits.revenue_amount
        from attribution.credits
        inner join attribution.conversions using (conversion_id)
        left join attribution.touchpoints using (touchpoint_id)
        """
    )
    credits = {tuple(row[:4]): row[4:] for row in found.iter_rows()}
    assert len(credits) == len(found)
    assert credits.keys() == expected.keys()
    for key, (credit, revenue) in credits.items():
        part, amount = expected[key]
        assert float(credit) == pytest.approx(part, abs=2e-9)
        assert (revenue is None) == (amount is None)
        if amount is not None:
            assert float(revenue) == pytest.approx(amount, abs=0.0101)


def test_shapley_equals_every_order_in_which_channels_could_come(
    world: RandomWorld, attributed: Warehouse
) -> None:
    sets = [{touch.channel for touch in path} for _, path in conversions(world) if path]
    channels = sorted(set().union(*sets))
    worth: dict[str, Fraction] = defaultdict(Fraction)
    for order in permutations(channels):
        for place, channel in enumerate(order):
            before = set(order[:place])
            with_it = sum(found <= before | {channel} for found in sets)
            worth[channel] += with_it - sum(found <= before for found in sets)
    found = dict(
        attributed.read(
            """
            select channel, conversion_count from attribution.channel_performance
            where attribution_model = 'shapley' and channel <> 'none'
            """
        ).iter_rows()
    )
    assert len(channels) == 4
    assert found.keys() == worth.keys()
    for channel, count in found.items():
        exact = worth[channel] / factorial(len(channels))
        assert float(count) == pytest.approx(float(exact), abs=1e-9 * len(sets))


def test_lift_equals_the_published_interval(attributed: Warehouse) -> None:
    lift = attributed.read("select * from attribution.lift where journey = 'trial'")
    row = lift.row(0, named=True)
    assert (row["treated_count"], row["control_count"]) == (70, 80)
    assert row["incremental_lift"] == pytest.approx(0.2)
    # Newcombe (1998), method 10, example (a)
    assert row["lift_low"] == pytest.approx(0.0524, abs=5e-5)
    assert row["lift_high"] == pytest.approx(0.3339, abs=5e-5)
    spent = attributed.read(
        """
        select
            sum(revenue_amount) filter (where profile_id like 'treated%') as treated,
            sum(revenue_amount) filter (where profile_id like 'holdout%') as control
        from attribution.conversions
        """
    ).row(0)
    caused = float(spent[0]) - 70 * float(spent[1]) / 80
    assert float(row["incremental_revenue_amount"]) == pytest.approx(caused, abs=0.01)


def test_nobody_in_control_of_all_leaves_its_lift_unknown(
    attributed: Warehouse,
) -> None:
    lift = attributed.read("select * from attribution.lift where journey = 'all'")
    row = lift.row(0, named=True)
    # the holdouts of the one journey were written to by no other
    assert (row["treated_count"], row["control_count"]) == (70, 0)
    assert row["unwritten_count"] == 80
    assert row["unknown_reason"] == "no_control_group"
    assert row["incremental_lift"] is None
    assert row["incremental_revenue_amount"] is None


def welch(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the difference of two means, by scipy's own Welch test."""
    interval = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def score_interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's interval: the rates that the observed one does not rule out."""
    rate, z = hits / count, NormalDist().inv_cdf(0.975)
    roots = np.roots([1 + z * z / count, -2 * rate - z * z / count, rate * rate]).real
    return float(roots.min()), float(roots.max())


def test_an_experiments_lift_equals_its_difference_of_means(
    world: RandomWorld, attributed: Warehouse
) -> None:
    shown: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for row in world.tables["staging.stg_experiments"].iter_rows(named=True):
        if row["experiment_id"] == "mail":
            person = row["message_id"].split("-sees-")[0]
            shown[person].append((row["occurred_at"], row["variation_id"]))
    visits, spent = defaultdict(list), defaultdict(list)
    for row in world.tables["profiles.sessions"].iter_rows(named=True):
        visits[row["profile_id"]].append(row["started_at"])
    for row in world.orders:
        person = row["order_id"].rsplit("-", 1)[0]
        spent[person].append(
            (row["ordered_at"], float(row["base_revenue_amount"] or 0))
        )
    arms: dict[str, list[tuple[bool, bool, float]]] = defaultdict(list)
    excluded = 0
    for person, views in shown.items():
        if len({variation for _, variation in views}) > 1:
            excluded += 1
            continue
        start, arm = min(views)
        end = start + LOOKBACK
        bought = [amount for at, amount in spent[person] if start < at <= end]
        arms[arm].append(
            (any(start < at <= end for at in visits[person]), bool(bought), sum(bought))
        )
    assert excluded > 20
    outcomes = {arm: np.array(rows, dtype=float) for arm, rows in arms.items()}
    lift = attributed.read(
        "select * from attribution.experiment_lift where experiment = 'mail'"
    )
    assert set(zip(lift["variation"], lift["metric"], strict=True)) == {
        (arm, metric)
        for arm in ("mens", "womens")
        for metric in ("visit", "conversion", "spend")
    }
    for row in lift.iter_rows(named=True):
        column = ("visit", "conversion", "spend").index(row["metric"])
        one, other = outcomes[row["variation"]][:, column], outcomes["no"][:, column]
        assert (row["treated_count"], row["control_count"]) == (len(one), len(other))
        assert row["control_variation"] == "no"
        assert row["excluded_count"] == excluded
        assert row["unknown_reason"] is None
        caused = one.mean() - other.mean()
        assert row["incremental_lift"] == pytest.approx(caused, abs=1e-9)
        if row["metric"] == "spend":
            low, high = welch(one, other)
        else:
            (l1, u1), (l2, u2) = (
                score_interval(int(hits.sum()), len(hits)) for hits in (one, other)
            )
            low = caused - np.hypot(one.mean() - l1, u2 - other.mean())
            high = caused + np.hypot(u1 - one.mean(), other.mean() - l2)
        assert row["lift_low"] == pytest.approx(low, abs=1e-5)
        assert row["lift_high"] == pytest.approx(high, abs=1e-5)


def test_an_experiment_without_lift_says_why(attributed: Warehouse) -> None:
    reasons = attributed.read(
        """
        select distinct experiment, variation, incremental_lift, unknown_reason
        from attribution.experiment_lift where experiment <> 'mail' order by all
        """
    )
    assert reasons.rows() == [
        ("uncontrolled", "blue", None, "no_control_named"),
        ("young", "blue", None, "horizon_open"),
    ]


def test_where_nothing_is_known_a_sentence_says_what_to_land(
    attributed: Warehouse, tmp_path: Path
) -> None:
    tables = {
        "credits": "Order Completed",
        "removal_effects": "Email Delivered",
        "channel_performance": "context.campaign",
        "campaign_performance": "Order Completed",
        "experiment_lift": "Experiment Viewed",
    }
    empty = Warehouse(tmp_path / "empty.duckdb")
    with empty.connect() as connection:
        for table, mend in tables.items():
            address = f"attribution.{table}"
            rows = attributed.read(f"select * from {address}")
            replace_table(connection, address, rows.clear())
            found = chart_metadata(address, connection)
            assert set(found) == {"table"}
            assert mend in found["table"].value
        replace_table(
            connection, "attribution.lift", attributed.read("from attribution.lift")
        )
        connection.execute("update attribution.lift set incremental_lift = null")
        found = chart_metadata("attribution.lift", connection)
        assert set(found) == {"table"}
        assert "no control group" in found["table"].value.lower()


def test_attribution_does_not_depend_on_the_order_of_landing(
    world: RandomWorld,
    attributed: Warehouse,
    tmp_path: Path,
) -> None:
    shuffled = RandomWorld(
        {
            table: frame.sample(fraction=1, shuffle=True, seed=7)
            for table, frame in world.tables.items()
        },
        world.touches,
        world.orders,
    )
    again = Warehouse(tmp_path / "warehouse.duckdb")
    attribute(shuffled, again)
    tables = attributed.read(
        """
        select table_name from information_schema.tables
        where table_schema = 'attribution' order by table_name
        """
    )["table_name"].to_list()
    assert len(tables) > 20
    for table in tables:
        query = f"select * from attribution.{table} order by all"
        assert attributed.read(query).equals(again.read(query)), table
