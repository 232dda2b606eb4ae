"""Journeys are read from YAML, and a mistake in one is named by file and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from activations.blueprint import (
    JOURNEY_SCHEMA,
    PHASES,
    STEP_SCHEMA,
    BlueprintError,
    journey_frames,
    load_journeys,
    needed_contents,
)
from orchestration.settings import PROJECT

JOURNEYS = PROJECT / "activations" / "journeys"


def write(folder: Path, name: str = "hello", **changes: Any) -> Path:
    """A valid journey file but for these changes; a change to None takes away."""
    journey: dict[str, Any] = {
        "journey": "hello",
        "version": 1,
        "description": "Says hello.",
        "message_class": "marketing",
        "priority": 10,
        "entry": {"intent": ["browsing"]},
        "exit": {"when": ["order"], "after": "5d"},
        "re_eligibility": "never",
        "steps": [{"step": "first", "channels": ["email"], "content": "hello"}],
        **changes,
    }
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump({k: v for k, v in journey.items() if v is not None}))
    return path


def test_shipped_journeys_are_valid_and_in_order_of_priority() -> None:
    journeys = load_journeys(JOURNEYS)
    assert [journey.journey for journey in journeys] == [
        "restoration",
        "post_purchase_care",
        "cart_recovery",
        "active_consideration",
        "win_back",
        "advocacy",
    ]


def test_frames_have_one_row_per_journey_and_per_step_and_channel() -> None:
    journeys = load_journeys(JOURNEYS)
    journey_rows, step_rows = journey_frames(journeys)
    assert journey_rows.schema == JOURNEY_SCHEMA
    assert step_rows.schema == STEP_SCHEMA
    assert journey_rows["journey"].is_unique().all()
    assert step_rows.select("journey", "step", "channel").is_unique().all()
    assert step_rows["content_ids"].list.len().unique().to_list() == [len(PHASES)]


def test_what_win_back_says_follows_the_phase() -> None:
    win_back = next(j for j in load_journeys(JOURNEYS) if j.journey == "win_back")
    hello = win_back.steps[0]
    assert [hello.content_for(phase) for phase in PHASES[:4]] == [
        "win_back_reintroduction",
        "win_back_value",
        "win_back_social_proof",
        "win_back_action",
    ]


def test_a_step_waits_for_its_hour_only_where_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, steps=[STEP | {"send_time": {"within": "36h"}}])
    _, steps = journey_frames(load_journeys(tmp_path))
    assert steps["send_time_seconds"].to_list() == [36 * 3600]
    write(tmp_path, steps=[STEP])
    _, steps = journey_frames(load_journeys(tmp_path))
    assert steps["send_time_seconds"].to_list() == [None]


def test_every_content_a_step_may_ask_for_is_named_with_its_channels() -> None:
    contents = needed_contents(load_journeys(JOURNEYS))
    assert ("win_back_value", "sms") in contents
    assert ("cart_last_call", "sms") in contents
    assert ("cart_last_call", "email") not in contents


def test_any_change_of_a_journey_changes_its_fingerprint(tmp_path: Path) -> None:
    write(tmp_path)
    before = load_journeys(tmp_path)[0].definition_hash
    write(tmp_path, priority=11)
    assert load_journeys(tmp_path)[0].definition_hash != before


STEP = {"step": "first", "channels": ["email"], "content": "hello"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holdout": 2}, "hello.yml: holdout: Input should be less than or equal to 1"),
        ({"colour": "red"}, "hello.yml: colour: Extra inputs are not permitted"),
        ({"exit": {"after": "5 days"}}, "exit.after: '5 days' is no duration"),
        ({"exit": {"after": 5}}, "exit.after: write a duration as 30m, 4h or 2d"),
        ({"entry": {"minimum_orders": 1}}, "entry: name at least one of intent"),
        ({"entry": {"intent": ["buying"]}}, "entry.intent[0]: Input should be"),
        ({"re_eligibility": "2d"}, "must not be shorter than exit.after"),
        ({"steps": []}, "steps: Tuple should have at least 1 item"),
        ({"steps": None}, "steps: Field required"),
        ({"steps": [STEP, STEP]}, "two steps are called first"),
        ({"steps": [STEP | {"escalation": True}]}, "nothing to escalate from"),
        ({"steps": [STEP | {"channels": ["fax"]}]}, "steps[0].channels[0]: Input"),
        (
            {"steps": [STEP | {"send_time": {"within": "4d"}}]},
            "send_time.within: Input",
        ),
        (
            {"steps": [STEP | {"send_time": {"within": "0h"}}]},
            "send_time.within: Input",
        ),
        (
            {"steps": [STEP | {"channels": ["sms", "sms"]}]},
            "steps[0]: channels names a channel twice",
        ),
        (
            {"steps": [STEP | {"next_best_channel": True}]},
            "steps[0]: next_best_channel needs two channels",
        ),
        (
            {"steps": [STEP | {"content": {"value": "hello"}}]},
            "steps[0]: content by phase needs a default",
        ),
        (
            {"steps": [STEP | {"wait_for": {"event": "session"}}]},
            "steps[0].wait_for.timeout: Field required",
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_field(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write(tmp_path, **changes)
    with pytest.raises(BlueprintError) as error:
        load_journeys(tmp_path)
    assert str(error.value).startswith("hello.yml: ")
    assert message in str(error.value)


def test_a_journey_is_called_like_its_file(tmp_path: Path) -> None:
    write(tmp_path, name="goodbye")
    with pytest.raises(BlueprintError, match=r"the file must be hello\.yml"):
        load_journeys(tmp_path)


def test_a_file_that_is_not_yaml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hello.yml").write_text("steps: [")
    with pytest.raises(BlueprintError, match=r"hello\.yml: not YAML"):
        load_journeys(tmp_path)


def test_a_folder_without_journeys_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlueprintError, match="no journeys"):
        load_journeys(tmp_path)
