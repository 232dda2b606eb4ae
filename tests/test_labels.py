"""Every name that code can give has words; one without a row reads as words too."""

import re
from typing import get_args

import polars as pl
import pytest

from activations import delivery, ledger, reconcile
from activations.channels import CHANNELS
from activations.parts import PHASES, Intent
from ml.gate import RefusalReason
from orchestration.labels import Labels
from orchestration.settings import PROJECT, SEEDS
from orchestration.warehouse import Warehouse
from tests.conftest import TestHome

SEED = pl.read_csv(SEEDS / "display_names.csv", infer_schema=False)
LABELS = Labels(
    {(kind, name): label for kind, name, label, _ in SEED.iter_rows()},
    {(kind, name): advice for kind, name, _, advice in SEED.iter_rows() if advice},
)


def seed(name: str, column: str) -> set[str]:
    return set(pl.read_csv(SEEDS / f"{name}.csv", infer_schema=False)[column])


def written(pattern: str, *globs: str) -> set[str]:
    """What a pattern finds in files of the project."""
    return {
        found
        for glob in globs
        for path in PROJECT.glob(glob)
        for found in re.findall(pattern, path.read_text())
    }


OUTCOME = r'Outcome\([^()]*?"(?:dead|unknown|pending)",\s*f?"(\w+)'
PRODUCED = {
    "channel": {*CHANNELS, "none"},
    "verdict": seed("decision_rules", "verdict") | {"send"},
    "reason": {
        *seed("decision_rules", "rule"),
        *("due", "guard", "render_failed", "gave_up", ledger.BOUNCED),
        *(delivery.NO_LONGER_DUE, delivery.NO_DESTINATION, delivery.EXPIRED),
        *(delivery.CONTENT_UNUSABLE, reconcile.LEDGER_PUT_BACK),
        reconcile.MAY_HAVE_BEEN_SENT,
        *written(OUTCOME, "activations/**/*.py"),
    },
    "address": {
        *written(r"then '(\w+)'\n", "models/profiles/contact_points.sql"),
        *written(r"then '(token_\w+|app_\w+)'", "models/profiles/app_devices.sql"),
        *("bounced", "failed"),
    },
    "phase": set(PHASES),
    "phase_reason": seed("phase_signals", "reason"),
    "exit": {
        *written(r"'(\w+)' as exit_reason", "models/decisions/enrollment_exits.sql"),
        *written(r"then '(withdrawn)'", "models/decisions/enrollments.sql"),
    },
    "assignment": {"treated", "holdout", "global_control"},
    "segment": seed("rfm_segments", "rfm_segment"),
    "state": written(
        r"'(pending|inflight|sent|suppressed|dead|unknown)'", "activations/*.py"
    ),
    "finding": {"more", "less", "not_proved"},
    "lift_reason": {
        *written(
            r"(?:then|else) '(no\w+_\w+|horizon_open)'", "models/attribution/lift.sql"
        ),
        *("no_control_group", "no_control_named", "sample_ratio_mismatch"),
    },
    "refusal": set(get_args(RefusalReason)),
}


@pytest.mark.parametrize("kind", PRODUCED)
def test_every_name_has_words_and_every_row_a_name(kind: str) -> None:
    known = set(SEED.filter(pl.col("kind") == kind)["name"])
    assert known == PRODUCED[kind]


def test_intents_and_missteps_have_words_as_ways_into_a_journey() -> None:
    known = set(SEED.filter(pl.col("kind") == "entry")["name"])
    assert known >= {*get_args(Intent), *seed("misstep_rules", "kind")}


def test_each_reason_that_keeps_a_message_back_says_what_to_do() -> None:
    for kind in ("reason", "address", "lift_reason", "refusal"):
        for name in PRODUCED[kind] - {"due"}:
            assert LABELS.advice(kind, name), f"{kind} {name}"


def test_no_label_shows_a_name_of_the_code() -> None:
    for kind, name, label, advice in SEED.iter_rows():
        assert label
        assert "_" not in label, f"{kind} {name}"
        assert not advice or advice[0].isupper()


def test_a_name_without_a_row_reads_as_words() -> None:
    assert LABELS.of("step", "sms_last_call") == "SMS last call"
    assert (
        LABELS.of("reason", "bounced: smtp_550") == "The mailbox refused it: smtp_550"
    )
    assert LABELS.of("reason", "of_tomorrow") == "Of tomorrow"
    assert LABELS.of("reason", None) == ""
    assert LABELS.path("email > sms > none") == "Email → SMS → No message"


def test_a_frame_is_relabelled_whatever_it_holds() -> None:
    frame = pl.DataFrame(
        {"channel": ["sms", None, "pigeon_post"], "sends": [1, 2, 3]},
        schema={"channel": pl.String, "sends": pl.Int64},
    )
    shown = LABELS.relabel(frame, {"channel": "channel", "sends": "channel"})
    assert shown["channel"].to_list() == ["SMS", None, "Pigeon post"]
    assert shown["sends"].to_list() == [1, 2, 3]
    for empty in (frame.clear(), frame.with_columns(channel=pl.lit(None, pl.String))):
        assert LABELS.relabel(empty, {"channel": "channel"}).equals(empty)


def test_words_are_read_from_the_warehouse(demo_home: TestHome) -> None:
    with Warehouse(demo_home.settings.published).connect(read_only=True) as connection:
        assert Labels.read(connection) == LABELS
