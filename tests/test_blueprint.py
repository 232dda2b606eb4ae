"""Journeys are read from YAML, and a mistake in one is named by file and field."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from activations.blueprint import (
    JOURNEY_SCHEMA,
    PHASES,
    STEP_SCHEMA,
    journey_frames,
    load_journeys,
    needed_contents,
    read_journeys,
)
from activations.reading import AuthoredError
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
    frames = journey_frames(journeys)
    journey_rows, step_rows = frames["journeys"], frames["journey_steps"]
    assert journey_rows.schema == JOURNEY_SCHEMA
    assert step_rows.schema == STEP_SCHEMA
    assert journey_rows["journey"].is_unique().all()
    assert step_rows.select("journey", "step", "channel").is_unique().all()
    assert step_rows["content_ids"].list.len().unique().to_list() == [len(PHASES)]


def test_what_win_back_says_follows_the_phase() -> None:
    win_back = next(j for j in load_journeys(JOURNEYS) if j.journey == "win_back")
    hello = win_back.messages[0].step
    assert [hello.content_for(phase) for phase in PHASES[:4]] == [
        "win_back_reintroduction",
        "win_back_value",
        "win_back_social_proof",
        "win_back_action",
    ]


def test_a_step_waits_for_its_hour_only_where_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, steps=[STEP | {"send_time": {"within": "36h"}}])
    steps = journey_frames(load_journeys(tmp_path))["journey_steps"]
    assert steps["send_time_seconds"].to_list() == [36 * 3600]
    write(tmp_path, steps=[STEP])
    steps = journey_frames(load_journeys(tmp_path))["journey_steps"]
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
        ({"holdout": 2}, "holdout: Input should be less than or equal to 1"),
        ({"colour": "red"}, "colour: there is no such field; it is one of journey,"),
        ({"holdot": 0.1}, "holdot: there is no such field; did you mean holdout?"),
        ({"entry": {"fase": ["value"]}}, "entry.fase: there is no such field; did you"),
        ({"exit": {"after": "5 days"}}, "exit.after: '5 days' is no duration"),
        ({"exit": {"after": 5}}, "exit.after: write a duration as 30m, 4h or 2d"),
        ({"entry": {"minimum_orders": 1}}, "entry: name at least one of intent"),
        (
            {"entry": {"intent": ["buying"]}},
            "entry.intent[0]: 'buying' is not allowed; it is",
        ),
        ({"re_eligibility": "2d"}, "must not be shorter than exit.after"),
        ({"holdout": True}, "holdout: expected a number, not yes or no"),
        ({"version": 10**30}, "version: Input should be less than"),
        ({"exit": {"after": "99999999999d"}}, "exit.after: 99999999999d is longer"),
        ({"exit": {"after": "999999d"}}, "exit.after: 999999d is longer than ten"),
        ({"description": False}, "description: expected words; put"),
        ({"steps": []}, "steps: Tuple should have at least 1 item"),
        ({"steps": None}, "steps: is missing; add it"),
        ({"steps": [STEP, STEP]}, "steps[1].step: two steps are called first"),
        ({"steps": "first"}, "steps: expected a list"),
        ({"steps": ["first"]}, "steps[0]: expected fields"),
        ({"steps": [STEP | {"escalation": True}]}, "nothing to escalate from"),
        (
            {"steps": [STEP | {"channels": ["emial"]}]},
            "steps[0].channels[0]: 'emial' is not allowed; did you mean email?",
        ),
        (
            {"steps": [STEP | {"content": {"default": "a", "vallue": "b"}}]},
            "steps[0].content.vallue: 'vallue' is not allowed; did you mean value?",
        ),
        (
            {"steps": [STEP | {"content": "Hello there"}]},
            "steps[0].content: 'Hello there' does not fit; a name is of a-z",
        ),
        (
            {"steps": [STEP | {"delay": "5d"}]},
            "steps[0].delay: the step is due 5d after the entry at the earliest",
        ),
        (
            {"steps": [STEP | {"until": {"at": "25:00"}}]},
            "steps[0].until.at: '25:00' is no hour of the day; write it as",
        ),
        (
            {"steps": [STEP | {"until": {"at": "09:00", "weekdays": ["mon"]}}]},
            "weekdays[0]: 'mon' is not allowed; did you mean monday",
        ),
        (
            {"steps": [{"exit": "now"}, STEP]},
            "every way to the step ends in an exit before",
        ),
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
            "steps[0].wait_for.timeout: is missing",
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_field(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write(tmp_path, **changes)
    with pytest.raises(AuthoredError) as error:
        load_journeys(tmp_path)
    (problem,) = error.value.problems
    assert (problem.name, problem.file) == ("hello", "hello.yml")
    assert problem.line or problem.field == "steps"
    assert message in str(problem)


def test_a_mistake_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, steps=[STEP, STEP | {"step": "second", "chanels": ["sms"]}])
    with pytest.raises(AuthoredError) as error:
        load_journeys(tmp_path)
    (problem,) = error.value.problems
    assert "chanels" in path.read_text().splitlines()[(problem.line or 0) - 1]


@pytest.mark.parametrize(
    ("added", "field"),
    [
        ("steps:\n- {step: second, channels: [sms], content: hello}\n", "steps"),
        ("priority: 3\n", "priority"),
        ("exit: {after: 5d, when: [order], after: 6d}\n", "exit.after"),
    ],
)
def test_a_key_that_is_given_twice_is_a_mistake(
    tmp_path: Path, added: str, field: str
) -> None:
    path = write(tmp_path)
    first = path.read_text()
    if field == "exit.after":
        first = first.replace("exit:\n  after: 5d\n  when:\n  - order\n", "")
    path.write_text(first + added)
    with pytest.raises(AuthoredError) as error:
        load_journeys(tmp_path)
    (problem,) = error.value.problems
    assert problem.field == field
    assert "keep one" in problem.reason
    assert problem.line is not None
    assert problem.line > first.count("\n")


def test_content_shared_by_an_anchor_is_not_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path)
    text = path.read_text().replace("content: hello", "content: &said {default: hello}")
    more = "- {step: more, channels: [sms], content: *said}"
    path.write_text(text.replace("  step: first\n", f"  step: first\n{more}\n"))
    assert len(load_journeys(tmp_path)[0].steps) == 2


def due(**changes: Any) -> dict[str, Any]:
    return {"channels": ["email"], "content": "hello", **changes}


@pytest.mark.parametrize(
    ("steps", "never"),
    [
        ([due(delay="3d"), due(delay="1d")], []),
        ([due(delay="3d"), due(delay="2d")], [1]),
        ([due(delay="3d"), due(delay="4d", delay_from="entry")], []),
        ([due(delay="3d"), due(delay="5d", delay_from="entry")], [1]),
        # who answered the first is not asked by the second, and waits for the third
        ([due(), due(delay="3d", escalation=True), due(delay="3d")], []),
        (
            [due(), due(delay="3d", escalation=True), due(delay="3d", escalation=True)],
            [2],
        ),
        ([due(), due(wait_for={"event": "session", "timeout": "9d"})], []),
        ([due(delay="9d"), due()], [0, 1]),
    ],
)
def test_a_step_that_is_due_only_after_the_end_is_a_mistake(
    tmp_path: Path, steps: list[dict[str, Any]], never: list[int]
) -> None:
    write(tmp_path, steps=[{"step": f"s{n}", **step} for n, step in enumerate(steps)])
    _, problems = read_journeys(tmp_path)
    assert [problem.field for problem in problems] == [
        f"steps[{n}].delay" for n in never
    ]


def test_both_endings_of_yaml_are_read_and_a_folder_inside_is_not(
    tmp_path: Path,
) -> None:
    write(tmp_path).rename(tmp_path / "hello.yaml")
    (tmp_path / "put_away").mkdir()
    write(tmp_path / "put_away", name="later")
    (tmp_path / "README.md").write_text("Notes.")
    journeys, problems = read_journeys(tmp_path)
    assert [journey.journey for journey in journeys] == ["hello"]
    assert problems == []


def test_one_journey_in_two_files_is_set_aside_with_both(tmp_path: Path) -> None:
    write(tmp_path).rename(tmp_path / "hello.yaml")
    write(tmp_path)
    journeys, problems = read_journeys(tmp_path)
    assert journeys == []
    assert {problem.file for problem in problems} == {"hello.yml", "hello.yaml"}
    assert {problem.name for problem in problems} == {"hello"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "steps: [",
        "a: b\n---\nc: d",
        "on: 2026-13-45",
        "on: x",
        "x: !!python/name:os.a",
    ],
)
def test_a_file_that_is_no_journey_sets_only_itself_aside(
    tmp_path: Path, text: str
) -> None:
    write(tmp_path)
    (tmp_path / "broken.yml").write_text(text)
    journeys, problems = read_journeys(tmp_path)
    assert [journey.journey for journey in journeys] == ["hello"]
    assert {(problem.name, problem.file) for problem in problems} == {
        ("broken", "broken.yml")
    }


def test_what_would_never_be_read_to_its_end_sets_only_itself_aside(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "large.yml").write_text("# x\n" * 300_000)
    layers = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "layers.yml").write_text("\n".join(["a0: &a0 x", *layers]))
    (tmp_path / "two\nlines.yml").write_text("")
    journeys, problems = read_journeys(tmp_path)
    assert [journey.journey for journey in journeys] == ["hello"]
    assert {problem.file for problem in problems} == {
        *("pipe.yml", "large.yml", "layers.yml", "two?lines.yml")
    }


def test_bytes_that_are_no_text_set_only_their_file_aside(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "latin.yml").write_bytes("description: café".encode("latin-1"))
    journeys, problems = read_journeys(tmp_path)
    assert len(journeys) == 1
    assert [problem.file for problem in problems] == ["latin.yml"]


def test_a_copy_that_kept_the_name_does_not_stop_the_journey(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="hello_again")
    journeys, problems = read_journeys(tmp_path)
    assert [journey.journey for journey in journeys] == ["hello"]
    assert [problem.name for problem in problems] == ["hello_again"]


def test_a_renamed_file_sets_both_names_aside(tmp_path: Path) -> None:
    write(tmp_path, name="welcome")
    _, problems = read_journeys(tmp_path)
    assert {problem.name for problem in problems} == {"hello", "welcome"}


def test_a_journey_is_called_like_its_file(tmp_path: Path) -> None:
    write(tmp_path, name="goodbye")
    with pytest.raises(AuthoredError, match=r"the file must be hello\.yml"):
        load_journeys(tmp_path)


def test_a_file_that_is_not_yaml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hello.yml").write_text("steps: [")
    with pytest.raises(AuthoredError, match=r"hello\.yml:1: file: cannot be read"):
        load_journeys(tmp_path)


def test_a_folder_without_journeys_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AuthoredError, match="no journeys"):
        load_journeys(tmp_path)
