"""The loop ends well over malformed input; `make fuzz` runs many times as much."""

from tests import fuzz
from tests.conftest import TestHome


def test_loop_ends_well_over_malformed_lines_and_files(home: TestHome) -> None:
    world = fuzz.make_world(home.settings.landing, lines=600, files=50, seed=3)
    home.run(fuzz.AS_OF)
    assert fuzz.complaints(world, home.settings.warehouse) == []
    persons = home.read("select count(*) from profiles.profiles").item()
    assert persons >= fuzz.PERSONS
