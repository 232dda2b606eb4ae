"""Each how-to page works as it is written, and touches as few files as it promises.

All pages are followed, one after the other, in a copy of the project, which then runs
once over what a few people did.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestration.settings import PROJECT
from orchestration.warehouse import Warehouse, fetch_frame
from tests.conftest import Event, MakeOnce, TestHome
from tests.vendors import Answer, Call, Vendor, serving

FOLDER = PROJECT / "docs" / "how-to"
# The most files that a page may touch.
DOORS = {
    "add-a-channel": 3,
    "add-a-destination": 3,
    "add-a-journey": 2,
    "add-a-rule": 4,
    "add-a-trait": 3,
    "add-an-attribution-model": 2,
}
STEP = re.compile(
    r"""(?:Write\s+`(?P<new>[^`]+)`
    |Add\s+to\s+the\s+end\s+of\s+`(?P<end>[^`]+)`
    |In\s+`(?P<file>[^`]+)`,\s+(?P<how>after|instead\s+of)\s+`(?P<place>[^`]+)`
    ):\n\n```\w+\n(?P<text>.*?)```""",
    re.VERBOSE | re.DOTALL,
)
NOON = datetime.fromisoformat("2026-05-04T12:00:00")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# People of the tier that the page on traits adds, on the channel that another one adds.
TIERS = """
journey: tiers
version: 1
description: Thanks whoever is gold.
message_class: marketing
priority: 5
entry: {when: {trait: loyalty_tier, is: gold}}
exit: {when: [misstep], after: 7d}
re_eligibility: never
steps: [{step: thanks, channels: [whatsapp], content: tiers_thanks}]
"""
THANKS = "---\nlink: /gold\n---\nThank you for all you bought.\n"


def follow(page: str, project: Path) -> set[str]:
    """Do in a project what a page says; returns the files that were touched."""
    touched = set()
    for step in STEP.finditer((FOLDER / f"{page}.md").read_text()):
        name = step["new"] or step["end"] or step["file"]
        path, text = project / name, step["text"]
        touched.add(name)
        if step["new"]:
            assert not path.exists(), f"{page}: {name} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif step["end"]:
            path.write_text(path.read_text() + text)
        else:
            lines = path.read_text().splitlines(keepends=True)
            (at,) = (n for n, line in enumerate(lines) if step["place"] in line)
            kept = lines[at : at + 1] if step["how"] == "after" else []
            lines[at : at + 1] = [*kept, *text.splitlines(keepends=True)]
            path.write_text("".join(lines))
    return touched


def copy_project(folder: Path) -> Path:
    """A copy of what the project consists of, beside its tests and pages."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "target", "*.egg-info")
    for part in ("activations", "dbt_project", "ml", "models", "orchestration"):
        shutil.copytree(PROJECT / part, folder / part, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(PROJECT / name, folder)
    return folder


def followed_pages(folder: Path) -> None:
    """A copy of the project in which all pages were followed, and one run of it."""
    project = copy_project(folder / "project")
    for page in sorted(DOORS):
        follow(page, project)
    # nobody is left out to measure by, and nobody falls under it by chance
    rules = project / "dbt_project" / "seeds" / "decision_rules.csv"
    rules.write_text(rules.read_text().replace(",,0.1,Never", ",,0,Never"))
    (project / "activations" / "journeys" / "tiers.yml").write_text(TIERS)
    content = project / "activations" / "content" / "tiers"
    content.mkdir()
    (content / "tiers_thanks.whatsapp.liquid").write_text(THANKS)
    home = TestHome(folder / "home")
    home.land([*lives()])
    silent = project / "welcome.yml"
    welcome = project / "activations" / "journeys" / "welcome.yml"
    silent.write_text(welcome.read_text().replace("holdout: 0", "holdout: 1"))
    for arguments in (
        ("run", "--as-of", NOON.isoformat()),
        ("dbt", "test", "--select", "touch_weights"),
        *commands("add-a-journey"),
        ("backtest", "welcome.yml"),
    ):
        finished = subprocess.run(
            [sys.executable, "-m", "orchestration.cli", *arguments],
            cwd=project,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("REKINDLE")},
                "REKINDLE_HOME": str(home.settings.root),
                "PYTHONPATH": str(project),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        said = finished.stdout + finished.stderr
        assert not finished.returncode, said[-5000:]
        name = "-".join(arguments[:2])
        (folder / f"{name}.txt").write_text(finished.stdout)


def commands(page: str) -> list[tuple[str, ...]]:
    """The commands that a page shows, by their arguments."""
    shown = re.findall(r"^rekindle (.+)$", (FOLDER / f"{page}.md").read_text(), re.M)
    return [tuple(line.split()) for line in shown]


def lives() -> Iterator[Event]:
    """What ann, bob and eve did: gold for long, gold since today, and signed up."""
    for number, (name, since) in enumerate((("ann", 10 * DAY), ("bob", 2 * HOUR))):
        phone = f"+49151123456{number}0"
        yield event(name, since, "identify", traits=gold(phone))
        yield event(name, since - HOUR, "track", **consent("whatsapp"))
    yield event(
        *("ann", 9 * DAY, "track"),
        event="WhatsApp Link Clicked",
        properties={"campaign_name": "spring"},
    )
    yield event(
        *("ann", 8 * DAY, "track"),
        event="Order Completed",
        properties={"order_id": "o1", "total": 50, "currency": "EUR"},
    )
    yield event("eve", 9 * DAY, "identify", traits={"email": "eve@mail.example"})
    yield event("eve", 9 * DAY, "track", **consent("email"))
    yield event("eve", HOUR, "track", event="Signed Up")


def gold(phone: str) -> Mapping[str, str]:
    """Traits of somebody in the first tier."""
    return {"phone": phone, "loyaltyTier": "gold"}


def consent(channel: str) -> Mapping[str, Any]:
    """A yes to marketing on a channel."""
    said = {"channel": channel, "purpose": "marketing", "status": "granted"}
    return {"event": "Channel Consent Updated", "properties": said}


def event(name: str, ago: timedelta, kind: str, **fields: Any) -> Event:
    """A call of somebody in Berlin, so long before noon."""
    moment = f"{NOON - ago:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "type": kind,
        "messageId": f"{name}-{kind}-{fields.get('event', '')}-{moment}",
        "userId": name,
        "timestamp": moment,
        "receivedAt": moment,
        "context": {"timezone": "Europe/Berlin"},
        **fields,
    }


@pytest.fixture(scope="session")
def followed(make_once: MakeOnce) -> Path:
    """Where all pages were followed."""
    return make_once("how-to", followed_pages)


def read(followed: Path, query: str) -> pl.DataFrame:
    """Rows of the warehouse that the copy built."""
    path = TestHome(followed / "home").settings.warehouse
    with Warehouse(path).connect(read_only=True) as connection:
        return fetch_frame(connection, query)


def test_every_page_has_a_promise() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(DOORS)


@pytest.mark.parametrize(("page", "most"), DOORS.items())
def test_a_page_touches_no_more_files_than_it_promises(
    tmp_path: Path, page: str, most: int
) -> None:
    touched = follow(page, copy_project(tmp_path / "project"))
    assert 0 < len(touched) <= most


def test_an_added_trait_is_known_of_whoever_states_it(followed: Path) -> None:
    tiers = read(followed, "select user_id, loyalty_tier from profiles.profiles")
    assert dict(tiers.rows()) == {"ann": "gold", "bob": "gold", "eve": None}


def test_an_added_channel_is_used_and_its_events_are_understood(followed: Path) -> None:
    sent = read(followed, "select channel, step from activations.sends")
    assert ("whatsapp", "thanks") in sent.rows()
    touches = read(followed, "select channel, campaign from attribution.touchpoints")
    assert ("whatsapp", "spring") in touches.rows()
    scored = read(followed, "select distinct channel from ml.channel_scores")
    assert "whatsapp" in scored["channel"]
    policies = read(followed, "select policy from attribution.policy_values")
    assert "always_whatsapp" in policies["policy"]


ASK_GATEWAY = """
import sys
from datetime import datetime
from pathlib import Path

from activations.channels.options import Surroundings
from activations.destinations import read_destinations
from activations.render import Message

moment = datetime(2026, 5, 4, 12)
secrets = {"GATEWAY_TOKEN": "t"}
around = Surroundings(Path("."), "hi@shop.example", None, secrets, lambda: moment)
options = read_destinations()["sms"].model_copy(update={"url": sys.argv[1]})
message = Message("s1", "sms", "+4915112345678", "hello", moment, {"body": "Hello"})
for _ in range(2):
    print(*options.open(around).send([message]))
"""


class Gateway(Vendor):
    """The gateway of the page."""

    def take(self, call: Call) -> Answer:
        self.written[call.headers["idempotency-key"]] = 1
        return 200, {}, {"id": call.json["to"][-3:]}


def test_an_added_destination_is_read_and_takes_a_message(followed: Path) -> None:
    gateway = Gateway()
    with serving(gateway) as url:
        said = subprocess.run(
            [sys.executable, "-c", ASK_GATEWAY, url],
            cwd=followed / "project",
            env={**os.environ, "PYTHONPATH": str(followed / "project")},
            capture_output=True,
            text=True,
            check=True,
        )
    assert said.stdout.count("state='sent'") == 2
    assert "receipt='678'" in said.stdout
    assert gateway.written == {"s1": 1}
    assert gateway.calls[0].headers["authorization"] == "Bearer t"


def test_an_added_rule_holds_whom_it_is_about(followed: Path) -> None:
    verdicts = read(
        followed,
        """
        select profiles.user_id, decisions.verdict, decisions.reason
        from decisions.decisions
        inner join profiles.profiles using (profile_id)
        where decisions.journey = 'tiers'
        """,
    )
    assert set(verdicts.rows()) == {("ann", "send", "due"), ("bob", "held", "newcomer")}


def test_an_added_journey_greets_whom_it_is_for(followed: Path) -> None:
    listed = read(
        followed,
        """
        select profiles.user_id, send_list.step, send_list.channel
        from decisions.send_list
        inner join profiles.profiles using (profile_id)
        where send_list.journey = 'welcome'
        """,
    )
    assert listed.rows() == [("eve", "hello", "email")]


def test_an_added_journey_is_tried_before_it_goes(followed: Path) -> None:
    assert "mistakes: none" in (followed / "check.txt").read_text()
    tried = (followed / "backtest-welcome.txt").read_text()
    assert "Every decision is the same." in tried
    assert "| 2026-05-04 | email | 1 | 1 |  |" in tried
    silenced = (followed / "backtest-welcome.yml.txt").read_text()
    assert "| 2026-05-04 | email | 0 | 1 | -1 |" in silenced
    assert "| holdout | 1 | 0 | +1 |" in silenced
    assert (followed / "home" / "dry_run" / "warehouse.duckdb").exists()


def test_an_added_attribution_model_gives_credit_and_passes_its_test(
    followed: Path,
) -> None:
    credit = read(
        followed,
        """
        select channel, sum(credit) from attribution.credits
        where attribution_model = 'last_week' group by channel
        """,
    )
    assert [(channel, float(total)) for channel, total in credit.rows()] == [
        ("whatsapp", 1.0)
    ]
