"""What a person is given is all that the home holds of them, and of nobody else."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestration.export import (
    NOT_GIVEN,
    PERSON_COLUMNS,
    SECTIONS,
    ExportError,
    as_table,
    export,
    write_export,
)
from tests.conftest import TestHome
from tests.test_erase import PEOPLE, secrets_of, words
from tests.test_erase import lived as lived  # noqa: PLC0414, the fixture
from tests.test_erase import number as number  # noqa: PLC0414, the fixture

COLUMNS = """
    select table_schema || '.' || table_name as name, column_name
    from information_schema.columns
    where table_schema <> 'information_schema'
"""


def test_every_table_that_names_people_is_given_or_left_out_for_a_reason(
    lived: TestHome,
) -> None:
    rows = lived.read(COLUMNS).rows()
    naming = {
        table
        for table, column in rows
        if column.endswith("profile_id") or column in PERSON_COLUMNS
    }
    given = [table for tables in SECTIONS.values() for table in tables]
    left_out = [table for tables in NOT_GIVEN.values() for table in tables]
    assert len(given) == len(set(given))
    assert not set(given) & set(left_out)
    assert naming - set(given) - set(left_out) == set()
    assert set(left_out) - naming == set()
    assert set(given) - {table for table, _ in rows} <= {"activations.guard_stops"}


def test_a_person_is_given_every_row_of_theirs_and_none_of_others(
    lived: TestHome, number: int, tmp_path: Path
) -> None:
    email = words(number)["email"]
    shown = json.loads(
        lived.rekindle("export", email, "--out", str(tmp_path / "x"), "--json").stdout
    )
    json_file, page = map(Path, shown["files"])
    for path in (json_file, page):
        assert path.stat().st_mode & 0o077 == 0
    given = json.loads(json_file.read_text())
    counts = {
        table: lived.read(
            f"select count(*) from {table} where profile_id = '{given['profile_id']}'"
        ).item()
        for table, column in lived.read(COLUMNS).rows()
        if column == "profile_id" and table in given["tables"]
    }
    assert {table: len(given["tables"][table]) for table in counts} == counts
    assert counts["decisions.send_list"] == 1
    assert len(given["tables"]["raw.events"]) == 5
    assert len(given["tables"]["raw.rejected_events"]) == 1
    assert len(given["tables"]["decisions.entries"]) == 1
    (row,) = given["ledger"]
    assert (row["address"], row["state"]) == (email, "sent")
    assert given["why"]["decisions"][0]["verdict"] == "send"
    for path in (json_file, page):
        text = path.read_text()
        assert all(word in text for word in secrets_of(number))
        for other in set(PEOPLE) - {number}:
            assert not any(word in text for word in secrets_of(other))


def test_what_is_given_never_lies_where_it_would_stay(
    lived: TestHome, number: int, tmp_path: Path
) -> None:
    exported = export(lived.settings, str(number))
    with pytest.raises(ExportError, match="lies in the home"):
        write_export(lived.settings, exported, lived.settings.root / "x")
    (tmp_path / "a").write_text("")
    with pytest.raises(ExportError, match="is not empty"):
        write_export(lived.settings, exported, tmp_path)
    assert words(number)["email"] not in repr(exported)


def test_the_page_shows_values_and_runs_none() -> None:
    shown = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: shown.append(tag)  # type: ignore[method-assign]
    parser.feed(as_table([{"name": "<script>alert(1)</script>", "none": None}]))
    assert shown == ["div", "table", "tr", "th", "tr", "td"]
