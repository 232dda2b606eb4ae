"""Journeys that can never do what they say, or must not, are refused with a witness."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from activations.authoring import compiled_problems, read_usable
from activations.blueprint import JOURNEYS as KIND
from activations.blueprint import load_journeys, read_journeys
from activations.compiler import shared_mistakes
from activations.conditions import Vocabulary
from activations.reading import Problem
from activations.render import Renderer
from orchestration.settings import PROJECT
from tests.conftest import LINKS

JOURNEYS = PROJECT / "activations" / "journeys"
WORDS = Vocabulary(
    traits={"country": "text", "order_count": "number", "last_seen_at": "date"},
    identifier_types=("user_id", "email"),
    audiences=("winter", "alpine_regulars"),
)
USUAL = {
    "journey": "story",
    "version": "1",
    "description": "A story.",
    "message_class": "marketing",
    "priority": "10",
    "entry": "{when: {event: Begun}}",
    "exit": "{after: 30d}",
    "re_eligibility": "never",
    "steps": "\n  - {step: one, channels: [email], content: words}",
}
OFFER = "incentive: {code: SAVE, percent: 10, valid_for: 48h}"


def write(folder: Path, name: str = "story", **changes: str) -> Path:
    """A journey of one line a field; `>>` marks the line of the mistake."""
    fields = {**USUAL, "journey": name, **changes}
    path = folder / f"{name}.yml"
    text = "".join(f"{field}: {value}\n" for field, value in fields.items())
    path.write_text(text.replace(">>", ""))
    return path


def line_of(text: Mapping[str, str]) -> int:
    """The line that is marked."""
    written = "".join(f"{field}: {value}\n" for field, value in text.items())
    return written[: written.index(">>")].count("\n") + 1


def found(folder: Path) -> list[Problem]:
    """All that is wrong with the journeys of a folder."""
    journeys, problems = read_journeys(folder)
    return [*problems, *compiled_problems(folder, journeys, WORDS)]


def steps(*lines: str) -> str:
    """Steps, an item a line; a line that begins with a blank goes on with the last."""
    return "".join(
        f"\n   {line}" if line.startswith(" ") else f"\n  - {line}" for line in lines
    )


def step(name: str, **fields: str) -> str:
    """A step in one line."""
    written = {"step": name, "channels": "[email]", "content": "words", **fields}
    return (
        "{" + ", ".join(f"{field}: {value}" for field, value in written.items()) + "}"
    )


def entry(condition: str) -> dict[str, str]:
    """An entry by a condition, on a line of its own."""
    return {"entry": f"\n  when: {condition}"}


ONE, TWO = step("one"), step("two", delay="1d")
BAD: list[tuple[str, dict[str, str]]] = [
    # nobody can begin
    ("never-begins", entry(">>{all: [{phase: [value]}, {phase: [action]}]}")),
    ("never-begins", entry(">>{all: [{intent: [browsing]}, {intent: [converted]}]}")),
    ("never-begins", entry(">>{all: [{audience: winter}, {not: {audience: winter}}]}")),
    ("never-begins", entry(">>{all: [{event: A}, {not: {event: A}}]}")),
    (
        "never-begins",
        entry(
            ">>{all: [{score: churn_propensity, at_least: 0.9},"
            " {score: churn_propensity, at_most: 0.5}]}"
        ),
    ),
    (
        "never-begins",
        entry(">>{event: A, within: 2h, without: {event: B, within: 4h}}")
        | {"exit": "{goals: [{event: B}], after: 5d}"},
    ),
    ("malformed", {">>entry": "{when: {not: {event: A}}}"}),
    ("malformed", {">>entry": "{when: {any: [{event: A}, {not: {event: B}}]}}"}),
    # a journey that its own messages begin
    ("cyclic-entry", entry(">>{event: Email Sent}")),
    ("cyclic-entry", entry(">>{event: push_notification_received}")),
    ("cyclic-entry", entry("\n    all:\n      - >>{event: In-App Message Shown}")),
    # exits
    (
        "no-exit-on-goal",
        {"entry": "{intent: [browsing]}", "exit": ">>{when: [], after: 9d}"},
    ),
    (
        "no-exit-on-goal",
        {
            "entry": "{intent: [cart_abandoned]}",
            "exit": ">>{when: [misstep], after: 9d}",
        },
    ),
    (
        "no-exit-on-goal",
        entry("{price_drop: 10, viewed_within: 9d}")
        | {"exit": ">>{when: [], after: 9d}"},
    ),
    (
        "no-exit-on-goal",
        entry("{back_in_stock: true, viewed_within: 9d}")
        | {"exit": ">>{when: [], after: 9d}"},
    ),
    (
        "no-exit-on-goal",
        entry("{event: A, without: {event: B, within: 4h}}")
        | {">>exit": "{after: 9d}"},
    ),
    ("exit-at-once", {"exit": ">>{when: [audience_left], after: 9d}"}),
    (
        "exit-at-once",
        entry("{all: [{event: A}, {not: {audience: winter}}]}")
        | {"exit": ">>{when: [order, audience_left], after: 9d}"},
    ),
    (
        "exit-at-once",
        {"entry": "{phase: [value]}", "exit": ">>{when: [cart_emptied], after: 9d}"},
    ),
    ("dead-exit", {"exit": ">>{when: [order, resolved], after: 9d}"}),
    (
        "dead-exit",
        {"entry": "{misstep: open}", "exit": ">>{when: [misstep], after: 9d}"},
    ),
    # service that is none
    (
        "transactional-offer",
        {
            "message_class": "transactional",
            "entry": "{misstep: open}",
            "steps": steps(">>" + step("one")[:-1] + f", {OFFER}}}"),
        },
    ),
    (
        "no-lawful-basis",
        {
            "message_class": "transactional",
            "entry": "{intent: [browsing]}",
            "steps": steps(">>" + step("one", channels="[email, sms]")),
        },
    ),
    (
        "no-lawful-basis",
        {
            "message_class": "transactional",
            "entry": "{phase: [value]}",
            "steps": steps(">>" + step("one", channels="[push]")),
        },
    ),
    # steps that nobody gets
    (
        "unreachable-step",
        {
            "steps": steps(
                ONE,
                ">>"
                + step("two", only_if="{all: [{phase: [value]}, {phase: [action]}]}"),
            )
        },
    ),
    (
        "unreachable-step",
        {
            "steps": steps(
                ONE,
                ">>"
                + step(
                    "two",
                    only_if="{all: [{message: one, was: clicked},"
                    " {not: {message: one, was: clicked}}]}",
                ),
            )
        },
    ),
    (
        "wait-outlasts-journey",
        {
            "exit": "{after: 5d}",
            "steps": steps(
                ">>" + step("one", wait_for="{event: session, timeout: 5d}")
            ),
        },
    ),
    (
        "malformed",
        {"exit": "{after: 5d}", "steps": steps(ONE, ">>" + step("two", delay="5d"))},
    ),
    (
        "malformed",
        {
            "exit": "{after: 5d}",
            "steps": steps(
                "branch: b",
                " if: {phase: [value]}",
                " then:",
                f"    - {step('one', delay='3d')}",
                f"    - >>{step('two', delay='3d')}",
            ),
        },
    ),
    # sides of branches
    (
        "dead-branch",
        {
            "steps": steps(
                "branch: b",
                " if: {any: [{audience: winter}, {not: {audience: winter}}]}",
                f" then: [{ONE}]",
                f" >>else: [{TWO}]",
            )
        },
    ),
    (
        "dead-branch",
        {
            "steps": steps(
                "branch: b",
                " if: {all: [{intent: [browsing]}, {intent: [converted]}]}",
                f" >>then: [{ONE}]",
                f" else: [{TWO}]",
            )
        },
    ),
    (
        "dead-branch",
        {
            "steps": steps(
                "branch: outer",
                " if: {phase: [value]}",
                " then:",
                "    - branch: inner",
                "      if: {phase: [action]}",
                f"      >>then: [{ONE}]",
                f"      else: [{TWO}]",
            )
        },
    ),
    (
        "dead-branch",
        {"steps": steps(ONE, ">>branch: b", " if: {audience: winter}", " then: []")},
    ),
    (
        "dead-branch",
        {
            "steps": steps(
                ONE,
                ">>experiment_split: e",
                " arms: [{arm: a, share: 0.5}, {arm: b, share: 0.5}]",
            )
        },
    ),
    # offers
    (
        "contradicting-offers",
        {
            "steps": steps(
                step("one")[:-1] + f", {OFFER}}}",
                ">>"
                + step("two", delay="1d")[:-1]
                + ", incentive: {code: MORE, percent: 20, valid_for: 48h}}",
            )
        },
    ),
    (
        "contradicting-offers",
        {
            "steps": steps(
                step("one")[:-1] + f", {OFFER}}}",
                ">>"
                + step("two", delay="9d")[:-1]
                + ", incentive: {code: SAVE, percent: 20, valid_for: 48h}}",
            )
        },
    ),
    (
        "hard-sell",
        {
            "entry": "{phase: [reintroduction]}",
            "steps": steps(">>" + step("one")[:-1] + f", {OFFER}}}"),
        },
    ),
    # tests of what there is not
    ("unknown-audience", entry(">>{audience: wintre}")),
    ("unknown-audience", entry("{all: [{event: A}, {not: >>{audience: summer}}]}")),
    (
        "unknown-audience",
        {"steps": steps(">>" + step("one", only_if="{audience: wintre}"))},
    ),
    (
        "opens-without-consent",
        {
            "steps": steps(
                ONE, ">>" + step("two", only_if="{message: one, was: opened}")
            )
        },
    ),
    (
        "misplaced-without",
        {
            "steps": steps(
                ONE,
                ">>"
                + step("two", only_if="{event: A, without: {event: B, within: 1d}}"),
            )
        },
    ),
    # what does not go together
    (
        "malformed",
        {"steps": steps(">>" + step("one", only_if="{message: one, was: sent}"))},
    ),
    (
        "malformed",
        {"steps": steps(ONE, ">>" + step("two", only_if="{message: tow, was: sent}"))},
    ),
    (
        "malformed",
        {"steps": steps(">>" + step("one", only_if="{message: two, was: sent}"), TWO)},
    ),
    ("malformed", {"steps": steps(">>" + step("one", only_if="{date: birthday}"))}),
    ("malformed", entry(">>{message: one, was: clicked}")),
    ("malformed", entry(">>{evnt: A}")),
    ("malformed", entry(">>{event: A, wher: {a: 1}}")),
    ("malformed", entry(">>{event: A, where: {price: {atleast: 1}}}")),
    ("malformed", entry(">>{event: A, where: {price: {}}}")),
    ("malformed", entry(">>{event: A, at_least: 0}")),
    ("malformed", entry(">>{at: 2026-05-04T12:00:00Z}")),
    ("malformed", entry(">>{score: luck}")),
    ("malformed", entry(">>{score: churn_propensity, at_least: 0.9, at_most: 0.1}")),
    ("malformed", entry(">>{replenishment: 3d, before: 4d}")),
    ("malformed", entry(">>{price_drop: 100, viewed_within: 3d}")),
    (
        "malformed",
        {
            "steps": steps(
                ONE,
                ">>experiment_split: e",
                " arms: [{arm: a, share: 1}, {arm: b, share: 1}]",
            )
        },
    ),
    (
        "malformed",
        {"steps": steps("experiment_split: e", " >>arms: [{arm: a, share: 1}]")},
    ),
    (
        "malformed",
        {
            "steps": steps(
                f"branch: b\n    if: {{audience: winter}}\n    then: [{ONE}]",
                f">>branch: b\n    if: {{audience: winter}}\n    then: [{TWO}]",
            )
        },
    ),
    (
        "malformed",
        {
            "steps": steps(
                ONE,
                ">>"
                + step("two", wait_for="{event: session, where: {a: 1}, timeout: 1d}"),
            )
        },
    ),
]


@pytest.mark.parametrize(("code", "changes"), BAD)
def test_a_bad_journey_is_refused_with_code_line_and_witness(
    tmp_path: Path, code: str, changes: dict[str, str]
) -> None:
    fields = {key.removeprefix(">>"): key for key in changes}
    marked = {
        fields.get(key, key): changes.get(fields.get(key, key), value)
        for key, value in USUAL.items()
    }
    write(tmp_path, **{key.removeprefix(">>"): value for key, value in marked.items()})
    problems = found(tmp_path)
    assert problems
    assert {problem.code for problem in problems} == {code}, problems
    assert line_of(marked) in {problem.line for problem in problems}, problems
    if code != "malformed":
        assert all(problem.witness for problem in problems)


GOOD: list[dict[str, str]] = [
    entry("{any: [{phase: [value]}, {all: [{event: A}, {not: {audience: winter}}]}]}"),
    entry("{event: A, within: 1d, without: {event: B, within: 4h}}")
    | {"exit": "{when: [], goals: [{event: B}], after: 9d}"},
    entry("{all: [{audience: winter}, {event: A}]}")
    | {"exit": "{when: [audience_left], after: 9d}"},
    {
        "message_class": "transactional",
        "entry": "{misstep: open}",
        "exit": "{when: [resolved], after: 9d}",
        "steps": steps(step("one", channels="[sms]")),
    },
    {
        "steps": steps(
            step("one")[:-1] + f", {OFFER}}}",
            step("two", delay="3d")[:-1]
            + ", incentive: {code: MORE, percent: 20, valid_for: 48h}}",
        )
    },
    # two arms may offer two things
    {
        "steps": steps(
            "experiment_split: e",
            " arms:",
            "    - {arm: a, share: 0.5, steps: [" + ONE[:-1] + f", {OFFER}}}]}}",
            "    - {arm: b, share: 0.5, steps: ["
            + step("two")[:-1]
            + ", incentive: {code: SAVE, percent: 20, valid_for: 1d}}]}",
        )
    },
    {
        "open_tracking": "true",
        "steps": steps(ONE, step("two", only_if="{message: one, was: opened}")),
    },
]


@pytest.mark.parametrize("changes", GOOD)
def test_a_sound_journey_raises_no_alarm(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    write(tmp_path, **changes)
    assert found(tmp_path) == []


def test_two_journeys_do_not_give_one_code_two_meanings(tmp_path: Path) -> None:
    write(tmp_path, steps=steps(step("one")[:-1] + f", {OFFER}}}"))
    write(
        tmp_path,
        name="tale",
        steps=steps(step("one")[:-1] + f", {OFFER.replace('10', '15')}}}"),
    )
    (problem,) = found(tmp_path)
    assert (problem.code, problem.name) == ("contradicting-offers", "tale")


def test_shipped_journeys_raise_no_alarm_and_fit_the_schema_for_editors() -> None:
    journeys = load_journeys(JOURNEYS)
    assert list(compiled_problems(JOURNEYS, journeys, WORDS)) == []
    for path in JOURNEYS.glob("*.yml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema())


def schema() -> Any:
    return KIND.schema()


@pytest.mark.parametrize(
    "changes",
    [
        {"entry": {"when": {"event": "A", "where": {"price": {"atleast": 1}}}}},
        {"exit": {"after": "soon"}},
        {"steps": [{"step": "one"}]},
    ],
)
def test_the_schema_for_editors_refuses_what_check_refuses(changes: Any) -> None:
    sound = yaml.safe_load("\n".join(f"{key}: {value}" for key, value in USUAL.items()))
    assert jsonschema.Draft202012Validator(schema()).is_valid(sound)
    assert not jsonschema.Draft202012Validator(schema()).is_valid(sound | changes)


def test_the_examples_for_authors_can_be_put_to_use_as_they_are() -> None:
    renderer = Renderer(shop_url="https://shop.example", links=LINKS, currency="USD")
    journeys, problems = read_usable(
        JOURNEYS / "examples", renderer, WORDS, today=date(2026, 7, 1)
    )
    assert problems == []
    assert {journey.journey for journey in journeys} == {
        *("browse_abandonment", "replenishment", "price_drop", "back_in_stock"),
        *("birthday", "loan_comparison", "season_opening"),
    }
    # beside those that are in use
    both = [*journeys, *load_journeys(JOURNEYS)]
    assert list(shared_mistakes(both)) == []
