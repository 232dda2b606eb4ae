"""The names others rely on exist, with rows, after the demo."""

import re

import pytest

from orchestration.settings import PROJECT
from tests.conftest import TestHome

ROW = re.compile(r"^\| `(\w+\.\w+)` \|.*\| ([\w, ]+) \|$", re.MULTILINE)
CONTRACT = {
    table: set(columns.split(", "))
    for table, columns in ROW.findall((PROJECT / "docs" / "contract.md").read_text())
}

# the sample world says nothing odd, erases nobody, warms up no channel and holds
# nothing back at the end
EMPTY_IN_THE_DEMO = {
    "activations.guard_stops",
    "identity.erased_profiles",
    "decisions.warm_ups",
    "staging.not_understood",
    "decisions.deliverable_sends",
}


def test_the_contract_is_read() -> None:
    assert len(CONTRACT) >= 40


@pytest.mark.parametrize("table", CONTRACT)
def test_contract_table_is_filled_and_has_its_columns(
    demo_home: TestHome, table: str
) -> None:
    frame = demo_home.read(f"select * from {table}")
    assert CONTRACT[table] <= set(frame.columns)
    assert (frame.height == 0) == (table in EMPTY_IN_THE_DEMO)


def test_the_published_copy_equals_the_warehouse(demo_home: TestHome) -> None:
    from tests.tables import fingerprints

    settings = demo_home.settings
    assert fingerprints(settings.published) == fingerprints(settings.warehouse)
