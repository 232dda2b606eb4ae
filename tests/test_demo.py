"""What the demo must show, and what may not change when it is run again."""

import re
import shutil
import sqlite3
from collections.abc import Callable

import polars as pl
import pytest

from tests.conftest import TestHome
from tests.tables import fingerprints, newest_as_of

NewHome = Callable[[str], TestHome]
MODELS = {
    "first_touch",
    "last_touch",
    "linear",
    "position_based",
    "time_decay",
    "markov",
    "shapley",
}


def test_every_phase_is_inhabited(demo_home: TestHome) -> None:
    phases = demo_home.read("select distinct phase from decisions.phases")
    assert set(phases["phase"]) == set(range(1, 8))


def test_someone_has_two_devices_and_a_shared_one_is_refused(
    demo_home: TestHome,
) -> None:
    devices = demo_home.read(
        """
        select profile_id from identity.identity_map
        where identifier_type = 'device_id'
        group by profile_id having count(*) >= 2
        """
    )
    refused = demo_home.read(
        """
        select * from identity.identity_conflicts
        where identifier_type in ('device_id', 'anonymous_id')
        """
    )
    assert devices.height > 0
    assert refused.height > 0


def test_a_shared_device_is_never_messaged(demo_home: TestHome) -> None:
    messaged = demo_home.read(
        """
        select send_list.send_id
        from decisions.send_list as send_list
        inner join profiles.profiles as profiles
            on send_list.profile_id = profiles.profile_id
        where profiles.is_hub
        """
    )
    assert messaged.is_empty()


def test_held_and_suppressed_for_at_least_five_reasons(demo_home: TestHome) -> None:
    reasons = demo_home.read(
        """
        select distinct verdict, reason from decisions.decisions
        where verdict <> 'send'
        """
    )
    assert set(reasons["verdict"]) == {"held", "suppressed"}
    assert reasons["reason"].n_unique() >= 5


def test_a_step_that_was_not_engaged_escalates(demo_home: TestHome) -> None:
    escalated = demo_home.read(
        """
        select enrollment_id from decisions.send_list
        group by enrollment_id having count(distinct channel) >= 2
        """
    )
    assert escalated.height > 0


def test_the_world_reacts_to_what_was_sent_and_the_next_day_branches_on_it(
    demo_home: TestHome,
) -> None:
    reactions = demo_home.read(
        """
        select sends.as_of as sent_at, events.occurred_at, events.interaction
        from staging.stg_message_events as events
        inner join staging.stg_sends as sends on events.send_id = sends.send_id
        where events.interaction <> 'sent'
        """
    )
    assert (reactions["occurred_at"] >= reactions["sent_at"]).all()
    assert {"delivered", "clicked"} <= set(reactions["interaction"])
    engaged_and_escalated = demo_home.read(
        """
        select later.enrollment_id
        from staging.stg_message_events as events
        inner join staging.stg_events as arrivals
            on events.message_id = arrivals.message_id
        inner join decisions.send_list as first on events.send_id = first.send_id
        inner join decisions.send_list as later
            on
                first.enrollment_id = later.enrollment_id
                and first.as_of < later.as_of
                and arrivals.received_at <= later.as_of
        where events.interaction = 'clicked' and later.journey = 'cart_recovery'
        """
    )
    assert engaged_and_escalated.is_empty()


def test_who_bought_between_two_steps_gets_no_further_cart_message(
    demo_home: TestHome,
) -> None:
    bought_between = demo_home.read(
        """
        select enrollment_id from decisions.enrollments
        where journey = 'cart_recovery' and exit_reason in ('order', 'converted')
        """
    )
    assert bought_between.height > 0
    sent_after_order = demo_home.read(
        """
        select send_list.send_id
        from decisions.send_list as send_list
        inner join decisions.enrollments as enrollments
            on send_list.enrollment_id = enrollments.enrollment_id
        inner join identity.profile_events as profile_events
            on send_list.profile_id = profile_events.profile_id
        inner join staging.stg_orders as orders
            on profile_events.message_id = orders.message_id
        inner join staging.stg_events as arrivals
            on orders.message_id = arrivals.message_id
        where
            send_list.journey = 'cart_recovery'
            and orders.ordered_at >= enrollments.entered_at
            and arrivals.received_at <= send_list.as_of
        """
    )
    assert sent_after_order.is_empty()


def test_every_model_attributes_and_lift_waits_with_a_control_group(
    demo_home: TestHome,
) -> None:
    models = demo_home.read(
        "select distinct attribution_model from attribution.credits"
    )
    assert set(models["attribution_model"]) == MODELS
    lift = demo_home.read("select * from attribution.lift")
    assert "all" in set(lift["journey"])
    # three days are too few for anybody's horizon to end
    whole = lift.row(by_predicate=pl.col("journey") == "all", named=True)
    assert whole["waiting_count"] > 0
    assert whole["unknown_reason"] == "horizon_open"
    held_back = demo_home.read(
        "select count(*) from attribution.lift_entries "
        "where trial = 'all' and is_control"
    )
    assert held_back.item() > 0


@pytest.fixture(scope="module")
def repeated(demo_home: TestHome, new_home: NewHome) -> tuple[TestHome, TestHome]:
    """The demo's home, and a copy of it in which the last run was run again."""
    home = new_home("repeated")
    shutil.rmtree(home.settings.root)
    shutil.copytree(demo_home.settings.root, home.settings.root)
    home.run(newest_as_of(home.settings.warehouse))
    return demo_home, home


def test_a_second_run_at_the_same_as_of_changes_no_table_and_sends_nothing(
    repeated: tuple[TestHome, TestHome],
) -> None:
    demo, again = (home.settings for home in repeated)
    assert fingerprints(again.warehouse) == fingerprints(demo.warehouse)
    outboxes = [
        {
            str(path.relative_to(settings.outbox)): path.read_bytes()
            for path in settings.outbox.rglob("*")
            if path.is_file()
        }
        for settings in (demo, again)
    ]
    assert outboxes[0] == outboxes[1]


PURE = re.compile(
    r"^(staging\.(?!stg_sends)|identity\.(?!identity_merges)|"
    r"profiles\.(?!rfm_changes)|decisions\.phase|attribution\.(?!lift))"
)


def test_another_order_of_landing_gives_the_same_tables(
    demo_home: TestHome, new_home: NewHome
) -> None:
    home = new_home("reordered")
    files = sorted(
        path for path in demo_home.settings.landing.rglob("*") if path.is_file()
    )
    for number, path in enumerate(reversed(files)):
        suffix = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes)
        target = home.settings.landing / f"{number:04}{suffix}"
        shutil.copyfile(path, target)
    home.run(newest_as_of(demo_home.settings.warehouse))
    expected = fingerprints(demo_home.settings.warehouse)
    found = fingerprints(home.settings.warehouse)
    pure = [table for table in expected if PURE.match(table)]
    assert len(pure) > 40
    assert {t: found[t] for t in pure} == {t: expected[t] for t in pure}


def test_no_email_and_no_phone_reaches_dagster(demo_home: TestHome) -> None:
    people = demo_home.read(
        """
        select email, phone from profiles.profiles
        where email is not null and phone is not null
        """
    )
    words = {*people["email"], *people["phone"]}
    addresses = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.]+|\+\d{9,15}")
    for path in demo_home.settings.dagster_home.rglob("*"):
        if not path.is_file():
            continue
        text = (
            dump(path)
            if path.suffix == ".db"
            else path.read_text("utf-8", errors="replace")
        )
        leaked = words & set(addresses.findall(text))
        assert not leaked, f"{path.name} holds {len(leaked)} addresses"


def dump(path: object) -> str:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()


def test_the_models_pass_their_unit_tests(
    repeated: tuple[TestHome, TestHome],
) -> None:
    told = repeated[1].rekindle("dbt", "test", "--select", "test_type:unit").stdout
    passed, total = re.findall(r"PASS=(\d+) .* TOTAL=(\d+)", told)[0]
    assert int(passed) == int(total) > 0


def test_the_demo_refuses_a_home_that_is_not_its_own(home: TestHome) -> None:
    home.land([], "mine.ndjson")
    refused = home.rekindle("demo", check=False)
    assert refused.returncode == 1
    assert "is not a demo home" in refused.stderr
    assert refused.stderr.count("\n") == 1
