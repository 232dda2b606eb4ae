"""Matching proposes the records of one person, and nobody else's, in any order."""

import importlib.util
import random
import sys
from datetime import date, timedelta

import polars as pl
import pytest

from ml.matching import (
    CANDIDATES,
    RECORDS,
    TooFewRecordsError,
    candidate_links,
    prepare_records,
)
from orchestration.settings import PROJECT

PERSONS = 400
TWICE = 200
SYLLABLES = ("an", "be", "cor", "da", "el", "fin", "gu", "ho", "ir", "jo", "ka", "lun")

Record = dict[str, str | date | None]


def word(chance: random.Random, syllables: int) -> str:
    return "".join(chance.choices(SYLLABLES, k=syllables)).capitalize()


def mistype(chance: random.Random, text: str) -> str:
    """Two neighbours change places, somewhere after the first letter."""
    place = chance.randrange(1, len(text) - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def make_person(chance: random.Random, number: int) -> Record:
    return {
        "record_id": f"{number:04}-a",
        "first_name": word(chance, 2),
        "last_name": word(chance, 3),
        "street": f"{chance.randrange(1, 200)} {word(chance, 3)} Street",
        "city": word(chance, 3),
        "region": chance.choice(("NY", "CA", "TX")),
        "postal_code": f"{chance.randrange(10000, 99999)}",
        "birthday": date(1950, 1, 1) + timedelta(days=chance.randrange(18000)),
    }


def make_world() -> list[Record]:
    """400 persons, 200 of them a second time with one field mistyped or missing."""
    chance = random.Random(20260101)
    world = [make_person(chance, number) for number in range(PERSONS)]
    for person in world[:TWICE]:
        again = {**person, "record_id": str(person["record_id"]).replace("a", "b")}
        field = chance.choice(("first_name", "last_name", "street", "city", "birthday"))
        value = again[field]
        again[field] = mistype(chance, value) if isinstance(value, str) else None
        world.append(again)
    return world


def frame(records: list[Record]) -> pl.DataFrame:
    return pl.DataFrame(records, schema=RECORDS)


@pytest.fixture(scope="module")
def world() -> list[Record]:
    return make_world()


@pytest.fixture(scope="module")
def extended(world: list[Record]) -> list[Record]:
    """The world, and some whose likeness is the point of a test."""
    person = world[PERSONS - 1]
    nobody = dict.fromkeys(RECORDS)
    return [
        *world,
        {
            **make_person(random.Random(7), 9000),
            "record_id": "namesake",
            "first_name": person["first_name"],
            "last_name": person["last_name"],
        },
        {
            **world[PERSONS - 2],
            "record_id": "swapped",
            "first_name": world[PERSONS - 2]["last_name"],
            "last_name": world[PERSONS - 2]["first_name"],
        },
        {
            **world[PERSONS - 3],
            "record_id": "styled",
            "last_name": str(world[PERSONS - 3]["last_name"]).upper() + " ",
            "street": str(world[PERSONS - 3]["street"]).replace(" ", ", "),
        },
        {**nobody, "record_id": "unknown"},
        {**nobody, "record_id": "empty", "first_name": " ", "street": "-"},
        {**nobody, "record_id": "only a name", "first_name": person["first_name"]},
    ]


@pytest.fixture(scope="module")
def links(extended: list[Record]) -> pl.DataFrame:
    return candidate_links(frame(extended))


class Table:
    """What the dbt model asks of a relation."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows

    def project(self, columns: str) -> "Table":
        return Table(self.rows.select(columns.split(", ")))

    def pl(self) -> pl.DataFrame:
        return self.rows


class Dbt:
    """What the dbt model asks of dbt: the run's settings and the records."""

    def __init__(self, records: list[Record], *, on: bool, threshold: float) -> None:
        self.tables = {
            "stg_run": pl.DataFrame(
                {"is_matching": [on], "match_threshold": [threshold]}
            ),
            "match_records": frame(records).select(
                pl.lit("user_id").alias("identifier_type"),
                pl.col("record_id").alias("identifier"),
                pl.all().exclude("record_id"),
            ),
        }

    def config(self, **_: str) -> None:
        """Nothing to keep."""

    def ref(self, name: str) -> Table:
        return Table(self.tables[name])


def propose(
    records: list[Record], *, on: bool = True, threshold: float = 0.95
) -> pl.DataFrame:
    """What `identity.match_candidates` would hold."""
    path = PROJECT / "models" / "identity" / "match_candidates.py"
    spec = importlib.util.spec_from_file_location("match_candidates", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return pl.DataFrame(module.model(Dbt(records, on=on, threshold=threshold), None))


def partners(links: pl.DataFrame, record_id: str) -> set[str]:
    ends = links.select("record_id", "linked_record_id").rows()
    return {b if a == record_id else a for a, b in ends if record_id in (a, b)}


def test_mistyped_doubles_are_found_and_no_others(links: pl.DataFrame) -> None:
    doubles = {(f"{number:04}-a", f"{number:04}-b") for number in range(TWICE)}
    accepted = links.filter(
        pl.col("match_probability") >= 0.95,
        pl.col("linked_record_id").str.ends_with("-b"),
    )
    assert set(accepted.select("record_id", "linked_record_id").rows()) == doubles


def test_a_namesake_with_another_birthday_and_address_is_somebody_else(
    links: pl.DataFrame,
) -> None:
    assert partners(links, "namesake") == set()


def test_first_and_last_name_may_be_swapped(links: pl.DataFrame) -> None:
    assert partners(links, "swapped") == {f"{PERSONS - 2:04}-a"}
    link = links.filter(pl.col("linked_record_id") == "swapped")
    assert {"first_name", "last_name"} <= set(link["agreed_on"].item())


def test_case_and_punctuation_are_no_difference(links: pl.DataFrame) -> None:
    assert partners(links, "styled") == {f"{PERSONS - 3:04}-a"}
    link = links.filter(pl.col("linked_record_id") == "styled")
    assert set(link["agreed_on"].item()) == {
        "first_name",
        "last_name",
        "birthday",
        "street",
        "house_number",
        "city",
        "postal_code",
        "region",
    }


def test_records_that_say_next_to_nothing_are_nobodys_double(
    links: pl.DataFrame,
) -> None:
    for record_id in ("unknown", "empty", "only a name"):
        assert partners(links, record_id) == set()


def test_what_differs_is_not_said_to_agree(
    world: list[Record], links: pl.DataFrame
) -> None:
    agreed = {
        a: set(on) for a, on in links.select("record_id", "agreed_on").iter_rows()
    }
    for person, again in zip(world[:TWICE], world[PERSONS:], strict=True):
        if again["birthday"] is None:
            assert "birthday" not in agreed[str(person["record_id"])]


def test_weight_and_probability_say_the_same(links: pl.DataFrame) -> None:
    odds = 2 ** links["match_weight"]
    assert (odds / (1 + odds) - links["match_probability"]).abs().max() < 1e-5
    assert links["match_probability"].min() >= 0.5
    assert links.schema == CANDIDATES
    assert (links["record_id"] < links["linked_record_id"]).all()


def test_the_order_of_the_records_does_not_matter(
    extended: list[Record], links: pl.DataFrame
) -> None:
    shuffled = random.Random(1).sample(extended, len(extended))
    assert candidate_links(frame(shuffled)).equals(links)


def test_too_few_doubles_teach_nothing(world: list[Record]) -> None:
    with pytest.raises(TooFewRecordsError, match="400 records with 0 pairs"):
        candidate_links(frame(world[:PERSONS]))
    with pytest.raises(TooFewRecordsError, match="0 records"):
        candidate_links(frame([]))


def test_a_record_id_is_there_and_names_one_record(world: list[Record]) -> None:
    for record_id in (None, world[1]["record_id"]):
        twice = [{**world[0], "record_id": record_id}, world[1]]
        with pytest.raises(ValueError, match="record_id of its own"):
            candidate_links(frame(twice))


def test_a_birthday_that_everybody_states_brings_nobody_together() -> None:
    chance = random.Random(3)
    default = {"birthday": date(1970, 1, 1)}
    crowd = [{**make_person(chance, number), **default} for number in range(501)]
    few = [{**record, "birthday": date(1980, 1, 1)} for record in crowd[:3]]
    for number, record in enumerate(few):
        record["record_id"] = f"few {number}"
    prepared = prepare_records(frame([*crowd, *few]))
    compared = prepared.filter(pl.col("block_0").is_not_null())
    assert set(compared["record_id"]) == {"few 0", "few 1", "few 2"}


def test_streets_are_alike_whatever_the_order_of_their_lines() -> None:
    first, second, other = (
        {**dict.fromkeys(RECORDS), "record_id": street, "street": street}
        for street in ("7 Hill Road Oak Farm", "Oak Farm 7 Hill Road", "9 Quay Lane")
    )
    rows = prepare_records(frame([first, second, other]))
    bits = {
        record_id: words[0] | words[1] << 64
        for record_id, *words in rows.select(
            "record_id", "street_bits_0", "street_bits_1"
        ).iter_rows()
    }
    one, two, three = (
        bits[str(record["record_id"])] for record in (first, second, other)
    )
    assert rows["house_number"].to_list() == ["7", "9", "7"]
    assert (one & two).bit_count() / one.bit_count() > 0.8
    assert (one & three).bit_count() / three.bit_count() < 0.5


def test_without_splink_the_error_says_how_to_install_it(
    world: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "splink", None)
    with pytest.raises(ImportError, match=r"pip install 'rekindle\[match\]'"):
        candidate_links(frame(world))


def test_matching_is_off_unless_asked_and_then_needs_no_splink(
    world: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "splink", None)
    candidates = propose(world, on=False)
    assert candidates.is_empty()
    assert candidates.schema == {
        "identifier_type": pl.String,
        "identifier": pl.String,
        "linked_identifier_type": pl.String,
        "linked_identifier": pl.String,
        "match_weight": pl.Float64,
        "match_probability": pl.Float64,
        "agreed_on": pl.List(pl.String),
        "is_accepted": pl.Boolean,
    }


def test_a_candidate_is_accepted_from_the_threshold_on(world: list[Record]) -> None:
    candidates = propose(world, threshold=0.999999)
    sure = candidates["match_probability"] >= 0.999999
    assert len(candidates) >= TWICE
    assert candidates["is_accepted"].equals(sure, check_names=False)
    assert set(candidates["identifier_type"]) == {"user_id"}


def test_where_nothing_can_be_learnt_there_are_no_candidates_and_a_warning(
    world: list[Record],
) -> None:
    with pytest.warns(UserWarning, match="no candidates: 400 records"):
        assert propose(world[:PERSONS]).is_empty()


def test_learning_survives_records_without_a_single_mistake() -> None:
    chance = random.Random(5)
    once = [make_person(chance, number) for number in range(300)]
    again = [{**record, "record_id": f"{record['record_id']}2"} for record in once]
    links = candidate_links(frame([*once, *again]))
    assert links.select("record_id", "linked_record_id").rows() == [
        (record["record_id"], f"{record['record_id']}2") for record in once
    ]


def test_learning_does_without_birthdays(world: list[Record]) -> None:
    chance = random.Random(11)
    plain = [{**record, "birthday": None} for record in world]
    exact = [
        {**record, "record_id": f"{record['record_id']}2"}
        for record in chance.sample(plain[:PERSONS], 100)
    ]
    links = candidate_links(frame([*plain, *exact]))
    found = set(links.select("record_id", "linked_record_id").rows())
    true = {(a, b) for a, b in found if a[:4] == b[:4]}
    assert found == true
    assert len(true) > 0.95 * (TWICE + 100)
