"""Matching proposes the records of one person, and nobody else's, in any order."""

import importlib.util
import random
import sys
from datetime import date, timedelta

import polars as pl
import pytest

from ml.matching import (
    CANDIDATES,
    TooFewRecordsError,
    candidate_links,
    prepare_records,
    read_fields,
)
from orchestration.settings import PROJECT, Settings
from tests.evaluate_matching import cluster_f1

SEED = pl.read_csv(PROJECT / "dbt_project" / "seeds" / "match_fields.csv")
FIELDS = read_fields(SEED)
RECORDS = ("record_id", *FIELDS)
STANDARD = Settings(_env_file=None).match_threshold
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
        "email": None,
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
    return pl.DataFrame(
        records, schema={**dict.fromkeys(RECORDS, pl.String), "birthday": pl.Date}
    )


def link(records: list[Record]) -> pl.DataFrame:
    """The pairs that matching finds, compared as the seed says."""
    return candidate_links(frame(records), FIELDS)


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
    return link(extended)


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
            "match_fields": SEED,
            "match_records": frame(records)
            .with_columns(pl.col("birthday").cast(pl.String))
            .unpivot(list(FIELDS), index="record_id", variable_name="field")
            .drop_nulls("value")
            .select(
                pl.lit("user_id").alias("identifier_type"),
                pl.col("record_id").alias("identifier"),
                pl.lit("latest").alias("statement"),
                pl.lit(value=True).alias("is_latest"),
                "field",
                "value",
            ),
        }

    def config(self, **_: str) -> None:
        """Nothing to keep."""

    def ref(self, name: str) -> Table:
        return Table(self.tables[name])


def propose(
    records: list[Record], *, on: bool = True, threshold: float = STANDARD
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
        pl.col("match_probability") >= STANDARD,
        pl.col("linked_record_id").str.ends_with("-b"),
    )
    assert set(accepted.select("record_id", "linked_record_id").rows()) == doubles


def test_a_namesake_with_another_birthday_and_address_is_somebody_else(
    links: pl.DataFrame,
) -> None:
    assert partners(links, "namesake") == set()


def test_first_and_last_name_may_be_swapped(links: pl.DataFrame) -> None:
    assert partners(links, "swapped") == {f"{PERSONS - 2:04}-a"}
    found = links.filter(pl.col("linked_record_id") == "swapped")
    assert {"first_name", "last_name"} <= set(found["agreed_on"].item())


def test_case_and_punctuation_are_no_difference(links: pl.DataFrame) -> None:
    assert partners(links, "styled") == {f"{PERSONS - 3:04}-a"}
    found = links.filter(pl.col("linked_record_id") == "styled")
    assert set(found["agreed_on"].item()) == {
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
    assert link(shuffled).equals(links)


def test_too_few_doubles_teach_nothing(world: list[Record]) -> None:
    with pytest.raises(TooFewRecordsError, match="400 records with 0 pairs"):
        link(world[:PERSONS])
    with pytest.raises(TooFewRecordsError, match="0 records"):
        link([])


def test_a_record_has_an_id_and_every_field(world: list[Record]) -> None:
    with pytest.raises(ValueError, match="needs a record_id"):
        link([{**world[0], "record_id": None}, world[1]])
    with pytest.raises(ValueError, match="lack the columns city, email"):
        candidate_links(frame(world).drop("email", "city"), FIELDS)


@pytest.mark.parametrize(
    ("field", "comparison", "told"),
    [
        ("Maiden Name", "name", "no name of a field"),
        ("city", "text", "once"),
        ("hobby", "likeness", "none of name, date"),
        ("hobby", "street", "only street"),
    ],
)
def test_a_field_that_cannot_be_compared_is_an_error(
    field: str, comparison: str, told: str
) -> None:
    row = pl.DataFrame({"field": field, "trait": "x", "comparison": comparison})
    with pytest.raises(ValueError, match=told):
        read_fields(pl.concat([SEED, row], how="vertical_relaxed"))


def test_a_birthday_that_everybody_states_brings_nobody_together() -> None:
    chance = random.Random(3)
    default = {"birthday": date(1970, 1, 1)}
    crowd = [{**make_person(chance, number), **default} for number in range(501)]
    few = [{**record, "birthday": date(1980, 1, 1)} for record in crowd[:3]]
    for number, record in enumerate(few):
        record["record_id"] = f"few {number}"
    prepared = prepare_records(frame([*crowd, *few]), FIELDS)
    compared = prepared.filter(pl.col("block_0").is_not_null())
    assert set(compared["record_id"]) == {"few 0", "few 1", "few 2"}


def test_streets_are_alike_whatever_the_order_of_their_lines() -> None:
    first, second, other = (
        {**dict.fromkeys(RECORDS), "record_id": street, "street": street}
        for street in ("7 Hill Road Oak Farm", "Oak Farm 7 Hill Road", "9 Quay Lane")
    )
    rows = prepare_records(frame([first, second, other]), FIELDS)
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
        link(world)


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
    links = link([*once, *again])
    assert links.select("record_id", "linked_record_id").rows() == [
        (record["record_id"], f"{record['record_id']}2") for record in once
    ]


def test_a_name_in_the_place_of_the_other_counts_though_the_other_is_missing(
    world: list[Record],
) -> None:
    person = world[0] | {"email": "one@people.example"}
    crossed = person | {
        "record_id": "crossed",
        "first_name": None,
        "last_name": person["first_name"],
        "street": None,
        "postal_code": None,
    }
    other = crossed | {"record_id": "other", "last_name": "Zyx"}
    weights = {
        pair: weight
        for *pair_of, weight, _, _ in link([person, *world[1:], crossed, other]).rows()
        for pair in [frozenset(pair_of)]
    }
    one = str(person["record_id"])
    misnamed = weights.get(frozenset({one, "other"}), 0.0)
    assert weights[frozenset({one, "crossed"})] > misnamed


def test_learning_does_without_birthdays(world: list[Record]) -> None:
    chance = random.Random(11)
    plain = [{**record, "birthday": None} for record in world]
    exact = [
        {**record, "record_id": f"{record['record_id']}2"}
        for record in chance.sample(plain[:PERSONS], 100)
    ]
    links = link([*plain, *exact])
    found = set(links.select("record_id", "linked_record_id").rows())
    true = {(a, b) for a, b in found if a[:4] == b[:4]}
    assert found == true
    assert len(true) > 0.95 * (TWICE + 100)


TYPED_FIELDS = read_fields(
    SEED.filter(
        pl.col("field").is_in(["first_name", "last_name", "birthday", "email", "city"])
    )
)


class Registry:
    """Made-up people, each told of several times, with slips and gaps."""

    def __init__(self, seed: int, records: int = 1000) -> None:
        self.chance = random.Random(seed)
        self.names = [word(self.chance, size) for size in (2, 3) for _ in range(60)]
        rows: list[Record] = []
        while len(rows) < records:
            person = self.person()
            number = f"{len(rows):04}"
            for _ in range(min(1 + int(self.chance.expovariate(0.3)), 9)):
                rows.append({**self.tell(person), "person": number})
        self.rows = [
            {**row, "record_id": f"{place:04}"}
            for place, row in enumerate(rows[:records])
        ]

    def person(self) -> Record:
        chance = self.chance
        first, last = chance.choices(self.names, k=2)
        local = chance.choice((f"{first}.{last}", f"{first}{chance.randrange(900)}"))
        host = "-".join(chance.choices(self.names, k=chance.choice((1, 2))))
        return {
            "first_name": first,
            "last_name": last,
            "birthday": date(1960, 1, 1) + timedelta(days=chance.randrange(16000)),
            "city": chance.choice(self.names[:25]),
            "email": f"{local}@{host}.example".lower(),
        }

    def tell(self, person: Record) -> Record:
        """The person as somebody typed it in."""
        chance, told = self.chance, dict(person)
        if chance.random() < 0.04:
            told["first_name"], told["last_name"] = (
                told["last_name"],
                told["first_name"],
            )
        for field in ("first_name", "last_name", "city", "email"):
            if chance.random() < 0.25:
                told[field] = mistype(chance, str(told[field]))
            if chance.random() < 0.2:
                told[field] = None
        if chance.random() < 0.25:
            born = person["birthday"]
            assert isinstance(born, date)
            told["birthday"] = chance.choice(
                (
                    born.replace(day=chance.randrange(1, 29)),
                    born.replace(day=1, month=chance.randrange(1, 13)),
                    born.replace(day=min(born.day, 28), year=born.year - 1),
                )
            )
        return told

    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(self.rows, infer_schema_length=None)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_thousand_mistyped_records_with_emails_fall_into_their_people(
    seed: int,
) -> None:
    records = Registry(seed).frame()
    links = candidate_links(records.drop("person"), TYPED_FIELDS)
    accepted = links.filter(pl.col("match_probability") >= STANDARD)
    assert cluster_f1(records, accepted)[0] >= 0.935


def test_emails_add_what_names_and_birthdays_leave_open() -> None:
    records = Registry(1).frame()
    blind = {field: how for field, how in TYPED_FIELDS.items() if field != "email"}
    f1, blind_f1 = (
        cluster_f1(records, links.filter(pl.col("match_probability") >= STANDARD))[0]
        for links in (
            candidate_links(records.drop("person"), fields)
            for fields in (TYPED_FIELDS, blind)
        )
    )
    assert f1 > blind_f1 + 0.05


def test_what_was_said_before_counts_unless_a_stranger_said_it() -> None:
    """An address that several people gave joins none of them to the others."""
    records = Registry(5, 600).frame().with_columns(is_latest=pl.lit(value=True))
    chance = random.Random(9)
    person = Registry(7, 1).person()
    new_name = {**person, "last_name": word(chance, 4), "email": None}
    stranger = Registry(8, 1).person()
    planted = [
        # she said her old name before; her other account knows no other
        {**new_name, "record_id": "shop", "is_latest": True},
        {**person, "record_id": "shop", "is_latest": False},
        {**person, "record_id": "guest", "is_latest": True},
        # the stranger used her account once
        {**stranger, "record_id": "shop", "is_latest": False},
        {**stranger, "record_id": "stranger", "is_latest": True},
    ]
    links = candidate_links(
        pl.concat([records.drop("person"), pl.DataFrame(planted)], how="diagonal"),
        TYPED_FIELDS,
    )
    assert partners(links, "shop") == {"guest"}
    assert partners(links, "stranger") == set()


def test_a_trait_of_the_brands_own_is_compared_like_any_other(
    world: list[Record],
) -> None:
    """Two records that only share a member card are one where the seed says so."""
    chance = random.Random(13)
    cards = {
        str(record["record_id"])[:4]: f"{chance.randrange(10**9):09}"
        for record in world
    }
    records = frame(world).with_columns(
        card=pl.col("record_id").str.head(4).replace_strict(cards)
    )
    lost = pl.DataFrame(
        {
            "record_id": "lost",
            "card": cards["0007"],
            "first_name": world[7]["first_name"],
        }
    )
    known = pl.concat([records, lost], how="diagonal")
    assert "lost" not in candidate_links(known, FIELDS)["linked_record_id"]
    own = candidate_links(known, {**FIELDS, "card": "code"})
    assert "0007-a" in partners(own, "lost")
    found = own.filter(pl.col("linked_record_id") == "lost")
    assert all("card" in agreed for agreed in found["agreed_on"])
