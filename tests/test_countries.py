"""What countries are called, and what their phone numbers begin with."""

import csv
from collections import defaultdict

import pytest

from tests.countries import SEED, SEEDS, compared, countries


def marks() -> dict[tuple[str, str], set[str]]:
    """The countries that each mark stands for."""
    found = defaultdict(set)
    with SEED.open() as file:
        for row in csv.DictReader(file):
            found["calling_code", row["calling_code"]].add(row["country"])
            for name in row["names"].split("|"):
                found["name", compared(name)].add(row["country"])
    with (SEEDS / "spellings.csv").open() as file:
        for row in csv.DictReader(file):
            if row["field"] == "country":
                found["name", compared(row["spelling"])].add(row["meaning"])
    return found


def test_the_seed_is_what_the_sources_hold() -> None:
    assert SEED.read_text() == countries(), "write it anew: make countries"


@pytest.mark.parametrize(
    ("country", "names"),
    [
        ("AT", ["AT", "aut", "Austria", "Österreich", "Autriche"]),
        ("CN", ["China", "中国", "Chine"]),
        ("GB", ["UK", "Great Britain", "Scotland", "Royaume-Uni"]),
        ("IN", ["भारत", "india", "INDE"]),
        ("NL", ["Holland", "the netherlands", "Pays-Bas", "Nederland"]),
        ("US", ["USA", "U.S.A.", "United States of America", "Estados Unidos"]),
    ],
)
def test_a_country_goes_by_many_names(country: str, names: list[str]) -> None:
    known = marks()
    assert {name: known["name", compared(name)] for name in names} == {
        name: {country} for name in names
    }


def test_no_name_is_that_of_two_countries() -> None:
    shared = {mark: of for mark, of in marks().items() if len(of) > 1}
    assert {kind for kind, _ in shared} == {"calling_code"}
    assert {"US", "CA", "JM"} <= shared["calling_code", "1"]
