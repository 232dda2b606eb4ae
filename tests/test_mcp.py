"""A client of the Model Context Protocol asks a home, and changes nothing in it."""

import hashlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import mcp
import pytest

from tests.conftest import TestHome

Ask = Callable[[mcp.Client], Awaitable[Any]]


def asked(home: TestHome, ask: Ask) -> Any:
    """What a client of the SDK is answered by `rekindle mcp`, over stdin and stdout."""
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "orchestration.cli", "mcp"],
        env={**os.environ, "REKINDLE_HOME": str(home.settings.root)},
    )

    async def meet() -> Any:
        async with mcp.Client(server, read_timeout_seconds=60) as client:
            return await ask(client)

    return anyio.run(meet)


def fingerprints(folder: Path) -> dict[Path, str]:
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_client_is_told_what_the_commands_say_and_changes_nothing(
    demo_home: TestHome,
) -> None:
    person = demo_home.read(
        "select profile_id from decisions.decisions order by all limit 1"
    ).item()

    async def ask(client: mcp.Client) -> dict[str, Any]:
        tools = (await client.list_tools()).tools
        assert all(tool.annotations.read_only_hint for tool in tools)
        assert all(tool.description for tool in tools)
        answers = {
            tool.name: await client.call_tool(
                tool.name, {"person": person} if tool.name == "why" else {}
            )
            for tool in tools
        }
        return {
            name: (answer.is_error, answer.structured_content)
            for name, answer in answers.items()
        }

    before = fingerprints(demo_home.settings.root)
    answers = asked(demo_home, ask)
    assert fingerprints(demo_home.settings.root) == before
    assert answers.keys() == {"why", "check", "doctor", "metrics"}
    assert not any(is_error for is_error, _ in answers.values())
    told = {name: content for name, (_, content) in answers.items()}

    for command in (["why", person], ["doctor"]):
        shown = json.loads(demo_home.rekindle(*command, "--json").stdout)
        told[command[0]].pop("in_words", None)
        shown.pop("disk", None), told[command[0]].pop("disk", None)
        assert told[command[0]] == shown
    assert told["check"]["mistakes"] == []
    assert len(told["check"]["usable_journeys"]) == len(
        list(demo_home.settings.journeys.glob("*.yml"))
    )
    findings = {page["page"]: page["finding"] for page in told["metrics"]["pages"]}
    report = (demo_home.settings.report / "index.html").read_text()
    assert len(findings) == 11
    assert findings["Channels"] in report
    emails = demo_home.read(
        "select email from profiles.profiles where email is not null"
    )["email"]
    said = json.dumps(told["metrics"])
    assert not any(email in said for email in emails)


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("why", {"person": "nobody"}, "no run knows 'nobody'"),
        ("why", {"person": "a", "as_of": "soon"}, "is not an ISO 8601 moment"),
    ],
)
def test_a_question_that_cannot_be_answered_gets_one_line(
    demo_home: TestHome, tool: str, arguments: dict[str, str], reason: str
) -> None:
    async def ask(client: mcp.Client) -> Any:
        return await client.call_tool(tool, arguments)

    answer = asked(demo_home, ask)
    assert answer.is_error
    (said,) = answer.content
    assert reason in said.text
    assert "\n" not in said.text


def test_a_home_without_a_run_says_what_makes_one(home: TestHome) -> None:
    async def ask(client: mcp.Client) -> list[Any]:
        return [await client.call_tool(tool, {}) for tool in ("doctor", "metrics")]

    for answer in asked(home, ask):
        assert answer.is_error
        assert "`rekindle run` makes it" in answer.content[0].text
