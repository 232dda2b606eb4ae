"""A journey that needs approval sends nothing until somebody approves it as it is."""

import shutil
from pathlib import Path

import pytest

from activations.approvals import (
    NEEDS_REVIEW,
    Approval,
    ApprovalError,
    add_approval,
    read_approvals,
)
from orchestration.settings import PROJECT
from orchestration.sources.authored import read_authored
from tests.conftest import TestHome

WORDS = "win_back/win_back_offer.email.liquid"


@pytest.fixture
def brand(home: TestHome) -> TestHome:
    """A home with journeys and contents of its own; one journey needs approval."""
    for name in ("journeys", "content"):
        shutil.copytree(PROJECT / "activations" / name, home.settings.config / name)
    ask(home)
    return home


def journey_file(home: TestHome) -> Path:
    return home.settings.journeys / "win_back.yml"


def ask(home: TestHome) -> None:
    text = journey_file(home).read_text()
    journey_file(home).write_text(f"{text}\napproval: required\n")


def waiting(home: TestHome) -> list[str]:
    """Journeys that are set aside, each for its approval alone."""
    authored = read_authored(home.settings)
    assert {problem.code for problem in authored.journey_problems} <= {NEEDS_REVIEW}
    names = [problem.name for problem in authored.journey_problems]
    assert not set(names) & {journey.journey for journey in authored.journeys}
    return names


def test_a_journey_waits_until_it_is_approved_and_again_once_it_changes(
    brand: TestHome,
) -> None:
    assert waiting(brand) == ["win_back"]
    refused = brand.rekindle("check", check=False)
    assert refused.returncode == 1
    assert "win_back.yml:" in refused.stdout
    assert "`rekindle approve win_back` lets it send" in refused.stdout

    brand.rekindle("approve", "win_back", "--by", "Ada, legal")
    assert waiting(brand) == []
    (approval,) = read_approvals(brand.settings.approvals)
    assert (approval.journey, approval.approved_by) == ("win_back", "Ada, legal")
    again = brand.rekindle("approve", "win_back", "--by", "Ada", check=False)
    assert "waits for no approval" in again.stderr

    words = brand.settings.content / WORDS
    approved = words.read_bytes()
    words.write_bytes(approved + b"<mj-text>More</mj-text>\n")
    assert waiting(brand) == ["win_back"]
    assert (
        "changed since it was approved" in brand.rekindle("check", check=False).stdout
    )
    words.write_bytes(approved)
    assert waiting(brand) == []

    steps = journey_file(brand).read_text()
    assert "priority: " in steps
    journey_file(brand).write_text(steps.replace("priority: ", "priority: 1"))
    assert waiting(brand) == ["win_back"]
    journey_file(brand).write_text(steps)
    shared = brand.settings.content / "brand.yml"
    shared.write_text(shared.read_text().replace("The Shop", "A Shop"))
    assert waiting(brand) == []


def test_what_has_a_mistake_is_mended_before_it_is_approved(brand: TestHome) -> None:
    (brand.settings.content / WORDS).unlink()
    refused = brand.rekindle("approve", "win_back", "--by", "Ada", check=False)
    assert "mend it first: win_back/win_back_offer.email.liquid" in refused.stderr
    assert not brand.settings.approvals.exists()


def test_asking_for_approval_changes_no_step_that_somebody_is_in(
    home: TestHome, brand: TestHome
) -> None:
    brand.rekindle("approve", "win_back", "--by", "Ada")
    asked = read_authored(brand.settings).frames["journeys"]
    text = journey_file(brand).read_text().replace("\napproval: required\n", "")
    journey_file(brand).write_text(text)
    assert read_authored(home.settings).frames["journeys"].equals(asked)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("journey,digest\n", ":1: expected journey,digest,approved_by,approved_at"),
        (
            "journey,digest,approved_by,approved_at\nwin_back,1\n",
            ":2: expected 4 values",
        ),
        (
            "journey,digest,approved_by,approved_at\na,b,c,d,e\n",
            ":2: expected 4 values",
        ),
        ('journey,digest,approved_by,approved_at\n"a\n', " cannot be read: "),
    ],
)
def test_approvals_that_cannot_be_read_stop_the_run_in_one_line(
    brand: TestHome, text: str, reason: str
) -> None:
    brand.settings.approvals.write_text(text)
    with pytest.raises(ApprovalError, match=r"approvals\.csv") as refused:
        read_authored(brand.settings)
    assert reason in str(refused.value)


def test_approvals_are_read_as_they_were_added(tmp_path: Path) -> None:
    path = tmp_path / "config" / "approvals.csv"
    approvals = [
        Approval("a", "1", 'who, "said" so', "2026-07-01T09:00:00Z"),
        Approval("b", "2", "two\nlines", "2026-07-02T09:00:00Z"),
    ]
    assert read_approvals(path) == []
    for approval in approvals:
        add_approval(path, approval)
    assert read_approvals(path) == approvals
