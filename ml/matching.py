"""Likely the same person: candidate links between records that share no identifier.

Fellegi and Sunter's model, trained without labels, run by Splink on a DuckDB of its
own. It proposes links with their weight; it merges nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from splink import Linker
    from splink.internals.splink_dataframe import SplinkDataFrame

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# How the values of a field are compared, from equal to different.
Comparison = Literal["name", "date", "email", "street", "text", "code", "exact"]
# Field and comparison, in the order in which what agreed is named.
Fields = Mapping[str, Comparison]

CANDIDATES = pl.Schema(
    {
        "record_id": pl.String(),
        "linked_record_id": pl.String(),
        "match_weight": pl.Float64(),
        "match_probability": pl.Float64(),
        "agreed_on": pl.List(pl.String()),
    }
)

# With fewer pairs that surely are one person, or equal in one respect, none learns.
MIN_SURE_PAIRS = 20
MIN_TRAINING_PAIRS = 50

# Chance agreement is counted on every pair of so many records.
U_SAMPLE = 2000
MAX_TRAINING_PAIRS = 2_000_000
MAX_ITERATIONS = 200
CONVERGED = 1e-6

# A value that more records share than this (a birthday of 1 January 1970, the
# address of a mall) brings nobody together; it still counts once others did.
MAX_BLOCK = 500

# Of the pairs that are one person, the share that agree exactly as in `SURE`: a start.
RECALL = 0.7

# Less likely pairs do not even count for how many are one person.
FAINT = 0.001
# In bits: beyond, a probability is 1 to the last digit.
MAX_WEIGHT = 100.0

DECIMALS = 6

# Two of year, month and day, where they stand in a date.
DATE_PARTS = (((1, 4), (5, 6)), ((1, 4), (7, 8)), ((5, 6), (7, 8)))

HOUSE_NUMBER = r"\b\d+[a-z]?\b"
SEP = "\x1f"

# Two records are compared when they share one of these, of those that are known.
BLOCKS: tuple[tuple[str, ...], ...] = (
    ("birthday",),
    ("names",),
    ("street",),
    ("postal_code", "house_number"),
    ("postal_code", "first_name"),
    ("postal_code", "last_name"),
    ("house_number", "first_name"),
    ("house_number", "last_name"),
    ("city", "first_name"),
    ("city", "last_name"),
    ("email",),
    ("email_name",),
    ("first_name", "birth_year"),
    ("last_name", "birth_year"),
    ("first_name", "birth_day"),
    ("last_name", "birth_day"),
)

ADDRESS = ("street", "house_number", "city", "postal_code", "region")

# What surely is one person, to begin with.
SURE: tuple[tuple[str, ...], ...] = (
    ("birthday", "first_name", "last_name"),
    ("birthday", "postal_code", "last_name"),
    ("birthday", "postal_code", "first_name"),
    ("first_name", "last_name", "postal_code", "house_number"),
    ("email", "birthday"),
    ("email", "first_name"),
    ("email", "last_name"),
)

# Weights are learnt among pairs that coincide in one respect, about all others.
TRAINING: tuple[tuple[str, ...], ...] = (
    ("birthday",),
    ("first_name", "last_name"),
    ("street", "postal_code"),
    ("email",),
)


class TooFewRecordsError(ValueError):
    """The records cannot teach what a coincidence is worth."""


def read_fields(rows: pl.DataFrame) -> Fields:
    """What is compared, and how, from rows of `field` and `comparison`.

    Raises:
        ValueError: if a row cannot be understood.
    """
    fields: dict[str, Comparison] = {}
    for field, comparison in rows.select("field", "comparison").iter_rows():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", field or "") or field in fields:
            raise ValueError(
                f"match_fields: {field!r} is no name of a field of its own; use small "
                "letters, digits and underscores, once"
            )
        if comparison not in get_args(Comparison):
            raise ValueError(
                f"match_fields: {field} is compared by {comparison!r}, none of "
                f"{', '.join(get_args(Comparison))}"
            )
        if (comparison == "street") != (field == "street"):
            raise ValueError("match_fields: only street is compared by street")
        fields[field] = comparison
    return fields


def candidate_links(
    records: pl.DataFrame, fields: Fields, floor: float = 0.5
) -> pl.DataFrame:
    """Pairs of records that are one person with a probability of `floor` or more.

    `records` has a `record_id` and the columns of `fields`, as text (dates like
    2026-01-31) and null where nothing is known. A record may have several rows, for
    all that it ever said; `is_latest` marks the row that holds today. Others speak for
    it as far as they are likely of one person with that row, so that what strangers
    said in its name joins nobody. Without that column every row holds.

    One row per pair comes back, `record_id` the smaller one: `match_weight` in bits
    (log2 of the odds), `match_probability`, and `agreed_on`, the respects that speak
    for it, by the pair of rows that are most alike. The result is the same for any
    order of the rows.

    Fellegi and Sunter, A Theory for Record Linkage, 1969: what agreement is worth by
    chance is counted on all pairs of a sample, what it is worth among the same people
    by expectation maximisation; rare values are worth more than frequent ones.

    Raises:
        ImportError: if Splink is not installed.
        TooFewRecordsError: if there is too little to learn from.
        ValueError: if a `record_id` is null or a column is missing.
    """
    prepared = prepare_records(records, fields)
    sure = max(
        (_count_pairs(prepared, columns) for columns in _known(SURE, prepared)),
        default=0,
    )
    training = [
        columns
        for columns in _known(TRAINING, prepared)
        if _count_pairs(prepared, columns) >= MIN_TRAINING_PAIRS
    ][:2]
    if sure < MIN_SURE_PAIRS or len(training) < 2:
        raise TooFewRecordsError(
            f"{len(prepared)} records with {sure} pairs that surely are one person are "
            f"too few to learn from: matching needs {MIN_SURE_PAIRS} such pairs, and "
            f"{MIN_TRAINING_PAIRS} equal in each of two of birthday, name, address and "
            "email"
        )
    comparisons = _comparisons(fields)
    linker = _train(prepared, comparisons, training)
    return _choose_links(_describe(linker, prepared, comparisons, floor))


def prepare_records(records: pl.DataFrame, fields: Fields) -> pl.DataFrame:
    """Records as they are compared: normalised, sorted, with the blocks they fall in.

    Raises:
        ValueError: if a `record_id` is null or a column is missing.
    """
    missing = sorted({"record_id", *fields} - set(records.columns))
    if missing:
        raise ValueError(f"records lack the columns {', '.join(missing)}")
    if "is_latest" not in records.columns:
        records = records.with_columns(is_latest=pl.lit(True))
    frame = records.select(
        "record_id", "is_latest", pl.col(list(fields)).cast(pl.String)
    ).sort(pl.all())
    if frame["record_id"].null_count():
        raise ValueError("every record needs a record_id")
    frame = frame.with_columns(
        _normal(pl.col(field), comparison) for field, comparison in fields.items()
    )
    derived: dict[str, pl.Expr] = {}
    if {"first_name", "last_name"} <= set(fields):
        both = pl.concat_list("first_name", "last_name")
        derived["names"] = pl.when(both.list.drop_nulls().list.len() == 2).then(
            both.list.sort().list.join(SEP)
        )
    if "street" in fields:
        derived["house_number"] = pl.col("street").str.extract(f"({HOUSE_NUMBER})")
        derived["street"] = _joined(pl.col("street").str.replace(HOUSE_NUMBER, ""))
    if fields.get("birthday") == "date":
        derived["birth_year"] = pl.col("birthday").str.head(4)
        derived["birth_day"] = pl.col("birthday").str.tail(4)
    for field, comparison in fields.items():
        if comparison == "email":
            derived[f"{field}_name"] = pl.col(field).str.split("@").list.first()
    frame = frame.with_columns(**derived)
    return (
        frame.with_columns(
            _block(columns).alias(f"block_{number}")
            for number, columns in enumerate(_known(_blocks(fields), frame))
        )
        .with_row_index("unique_id")
        .pipe(_with_street_bits)
    )


def _normal(text: pl.Expr, comparison: Comparison) -> pl.Expr:
    """A value as it is compared; null where nothing is left."""
    match comparison:
        case "date":
            return text.str.to_date("%Y-%m-%d", strict=False).dt.to_string("%Y%m%d")
        case "email":
            return text.str.strip_chars().str.to_lowercase().replace("", None)
        case "name" | "code":
            return _joined(_words(text))
        case _:
            return _words(text)


def _known(
    combinations: Sequence[tuple[str, ...]], frame: pl.DataFrame
) -> list[tuple[str, ...]]:
    """Those of which the records have every column."""
    return [columns for columns in combinations if set(columns) <= set(frame.columns)]


def _blocks(fields: Fields) -> list[tuple[str, ...]]:
    """What two records must share to be compared; fields of a brand's own too."""
    usual = {column for columns in BLOCKS for column in columns}
    own = [field for field in fields if field not in usual and field != "region"]
    return [
        *BLOCKS,
        *((field,) for field in own if fields[field] in ("code", "email", "date")),
        *(
            (field, other)
            for field in own
            for other in ("first_name", "last_name", "birthday")
        ),
    ]


def _words(text: pl.Expr) -> pl.Expr:
    """Lower case, without accents and punctuation; null where nothing is left."""
    return (
        text.str.normalize("NFKD")
        .str.replace_all(r"\p{M}", "")
        .str.to_lowercase()
        .str.replace_all(r"[^\p{L}\p{N}]+", " ")
        .str.strip_chars()
        .replace("", None)
    )


def _joined(text: pl.Expr) -> pl.Expr:
    """Without spaces, which people set as they like; null where nothing is left."""
    return text.str.replace_all(" ", "").replace("", None)


def _with_street_bits(prepared: pl.DataFrame) -> pl.DataFrame:
    """Every three letters in a row of the street set one of 128 bits, in two words.

    What two streets share is then a few instructions, and the order of their lines is
    no matter (Schnell, Bachteler, Reiher, Privacy-preserving record linkage using
    Bloom filters, 2009).
    """
    if "street" not in prepared.columns:
        return prepared
    starts = [pl.col("street").str.slice(start) for start in range(3)]
    trigrams = (
        prepared.select(
            "unique_id",
            trigram=pl.concat_list(start.str.extract_all("...") for start in starts),
        )
        .explode("trigram")
        .drop_nulls()
        .with_columns(bit=(pl.col("trigram").rank("dense") % 128).cast(pl.Int64))
        .unique(["unique_id", "bit"])
    )
    bits = [
        pl.lit(2, pl.UInt64)
        .pow(pl.col("bit").filter(pl.col("bit") // 64 == word) % 64)
        .cast(pl.UInt64)
        .sum()
        .alias(f"street_bits_{word}")
        for word in range(2)
    ]
    words = trigrams.group_by("unique_id").agg(*bits, street_bit_count=pl.len())
    return prepared.join(words, on="unique_id", how="left").sort("unique_id")


def _block(columns: tuple[str, ...]) -> pl.Expr:
    """Where a record is compared; null if nobody or too many would be there too."""
    key = pl.concat_str(columns, separator=SEP)
    return pl.when(pl.len().over(key).is_between(2, MAX_BLOCK)).then(key)


def _count_pairs(prepared: pl.DataFrame, columns: tuple[str, ...]) -> int:
    """How many pairs of records are equal in all of `columns`."""
    sizes = prepared.drop_nulls(columns).group_by(columns).len()["len"].cast(pl.Int64)
    return int((sizes * (sizes - 1) // 2).sum())


def _comparisons(fields: Fields) -> list[dict[str, Any]]:
    """How two records are compared: for each respect, from equal to different."""
    compared = []
    for field, comparison in fields.items():
        compared.append(_comparison(field, *_degrees(field, comparison, fields)))
        if comparison == "street":
            compared.append(_comparison("house_number"))
    return compared


def _degrees(field: str, comparison: Comparison, fields: Fields) -> tuple[str, ...]:
    """The conditions of being near without being equal, the nearest first."""
    likeness = f"jaro_winkler_similarity({field}_l, {field}_r)"
    shared = (
        "(bit_count(street_bits_0_l & street_bits_0_r)"
        " + bit_count(street_bits_1_l & street_bits_1_r))"
        " / least(street_bit_count_l, street_bit_count_r)"
    )
    degrees: dict[Comparison, tuple[str, ...]] = {
        "name": _name_degrees(field, likeness, fields),
        "date": (
            f"hamming({field}_l, {field}_r) = 1",
            " or ".join(_equal_parts(field, *parts) for parts in DATE_PARTS),
            f"hamming({field}_l, {field}_r) = 2",
        ),
        "email": (
            *(f"damerau_levenshtein({field}_l, {field}_r) <= {off}" for off in (1, 3)),
            f"{field}_name_l = {field}_name_r",
            f"{likeness} >= 0.88",
        ),
        "street": (f"{shared} >= 0.8", f"{shared} >= 0.5"),
        "text": (f"{likeness} >= 0.88",),
        "code": (f"{likeness} >= 0.85",),
        "exact": (),
    }
    return degrees[comparison]


def _name_degrees(field: str, likeness: str, fields: Fields) -> tuple[str, ...]:
    """Near names, among them those that stand in each other's place.

    One record may have only one of the two names, and that in the wrong place.
    """
    near, less_near = f"{likeness} >= 0.92", f"{likeness} >= 0.8"
    other = {"first_name": "last_name", "last_name": "first_name"}.get(field)
    if other not in fields:
        return near, less_near
    crossed = [(f"{field}_l", f"{other}_r"), (f"{other}_l", f"{field}_r")]
    equal = " or ".join(f"{one} = {another}" for one, another in crossed)
    most_alike = ", ".join(
        f"jaro_winkler_similarity({one}, {another})" for one, another in crossed
    )
    return equal, near, f"greatest({most_alike}) >= 0.92", less_near


def _equal_parts(field: str, *parts: tuple[int, int]) -> str:
    """Dates that agree in all of some parts, each from a letter to a letter."""
    equal = (
        f"{field}_l[{first}:{last}] = {field}_r[{first}:{last}]"
        for first, last in parts
    )
    return f"({' and '.join(equal)})"


def _comparison(column: str, *conditions: str) -> dict[str, Any]:
    """Equal, near in each of the ways of `conditions`, or different."""
    return {
        "output_column_name": column,
        "comparison_levels": [
            {
                "sql_condition": f"{column}_l is null or {column}_r is null",
                "label_for_charts": "unknown",
                "is_null_level": True,
            },
            {
                "sql_condition": f"{column}_l = {column}_r",
                "label_for_charts": "equal",
                "tf_adjustment_column": column,
            },
            *(
                {"sql_condition": condition, "label_for_charts": condition}
                for condition in conditions
            ),
            {"sql_condition": "else", "label_for_charts": "different"},
        ],
    }


def _equal(columns: Iterable[str]) -> str:
    return " and ".join(f"l.{column} = r.{column}" for column in columns)


def _levels(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """The levels of a comparison from different to equal, as Splink numbers them."""
    levels = comparison["comparison_levels"]
    return [level for level in reversed(levels) if not level.get("is_null_level")]


def _start_splink(prepared: pl.DataFrame, model: dict[str, Any]) -> Linker:
    """Splink over the records, on a database of its own, in memory."""
    try:
        from splink import DuckDBAPI, Linker
    except ImportError as missing:
        raise ImportError(
            "matching needs Splink: pip install 'rekindle[match]'"
        ) from missing
    api = DuckDBAPI()
    api.duckdb_con.execute("set enable_progress_bar = false")
    return Linker(api.register(prepared.to_arrow()), model, log_level=None)


def _count_chance(
    prepared: pl.DataFrame, comparisons: list[dict[str, Any]]
) -> dict[str, Any]:
    """The model with what agreement is worth by chance (u), from pairs of a sample."""
    sample = prepared.sample(min(U_SAMPLE, len(prepared)), seed=0, shuffle=True)
    linker = _start_splink(
        sample,
        {
            "link_type": "dedupe_only",
            "comparisons": comparisons,
            "blocking_rules_to_generate_predictions": [
                f"l.{block} = r.{block}"
                for block in prepared.columns
                if block.startswith("block_")
            ],
            "retain_matching_columns": False,
            "retain_intermediate_calculation_columns": True,
        },
    )
    linker.training.estimate_u_using_random_sampling(
        max_pairs=U_SAMPLE**2, min_count_per_level=None, num_chunks=1
    )
    model: dict[str, Any] = linker.misc.save_model_to_json()
    pair_count = len(sample) * (len(sample) - 1) / 2
    for comparison in model["comparisons"]:
        for level in _levels(comparison):
            # Splink takes what it never saw for one in a million, in any sample.
            if not isinstance(level.get("u_probability"), float):
                level["u_probability"] = 1 / pair_count
    return model


def _train(
    prepared: pl.DataFrame,
    comparisons: list[dict[str, Any]],
    training: list[tuple[str, ...]],
) -> Linker:
    """Learn what agreement is worth among the same people (m), and how many there are.

    The m of a level is the mean of what the kinds of pairs in `training` teach.
    """
    model = _count_chance(prepared, comparisons)
    taught = [_learn_agreement(prepared, model, columns) for columns in training]
    for comparison in model["comparisons"]:
        shares = [each.get(comparison["output_column_name"]) for each in taught]
        known = [share for share in shares if share is not None]
        if known:
            for level, share in zip(
                _levels(comparison), np.mean(known, 0), strict=True
            ):
                level["m_probability"] = float(share)

    linker = _start_splink(prepared, model)
    linker.training.estimate_probability_two_random_records_match(
        [_equal(columns) for columns in _known(SURE, prepared)], recall=RECALL
    )
    return linker


def _learn_agreement(
    prepared: pl.DataFrame, model: dict[str, Any], columns: tuple[str, ...]
) -> dict[str, FloatArray]:
    """How the pairs that are one person agree, learnt from those equal in `columns`.

    Our own expectation maximisation over counted patterns: that of Splink 5.0.0 stops
    with an error where records are so clean that a probability underflows, and its
    sums depend on the number of threads.
    """
    linker = _start_splink(
        _choose_blocks(prepared, columns),
        {
            **model,
            "blocking_rules_to_generate_predictions": [_equal(columns)],
            "retain_matching_columns": True,
        },
    )
    pairs = linker.inference.predict(warning_mode="never")
    chance = {
        comparison["output_column_name"]: np.array(
            [level["u_probability"] for level in _levels(comparison)]
        )
        for comparison in model["comparisons"]
        if not _is_given(comparison["output_column_name"], columns)
    }
    gammas = ", ".join(f"gamma_{respect}" for respect in chance)
    counted = pairs.query_sql(
        f"select {gammas}, count(*) as pair_count from {{this}} group by all"
    )
    patterns = _frame(counted).sort(pl.all())
    return _maximise_expectation(
        {respect: patterns[f"gamma_{respect}"].to_numpy() for respect in chance},
        patterns["pair_count"].to_numpy(),
        chance,
    )


def _is_given(respect: str, columns: tuple[str, ...]) -> bool:
    """Whether pairs equal in `columns` can teach nothing about a respect."""
    return respect in columns or (respect in ADDRESS and "street" in columns)


def _maximise_expectation(
    gammas: dict[str, IntArray], counts: IntArray, chance: dict[str, FloatArray]
) -> dict[str, FloatArray]:
    """Shares of the levels among the pairs that are one person.

    `gammas` has the level of each pattern, 0 is different, -1 unknown; `chance` the
    shares among others, by level. Half a pair is added to every level, so that none is
    ruled out for not having been seen.
    """
    levels = {respect: range(len(shares)) for respect, shares in chance.items()}
    agreement = {}
    for respect, shares in chance.items():
        start = np.full(len(shares), 0.1 / (len(shares) - 1))
        start[-1] = 0.9
        agreement[respect] = start
    same = 0.1
    for _ in range(MAX_ITERATIONS):
        odds = np.full(len(counts), np.log(same / (1 - same)))
        for respect, gamma in gammas.items():
            weights = np.log(agreement[respect] / chance[respect])
            odds += np.where(gamma < 0, 0, weights[np.maximum(gamma, 0)])
        expected = counts / (1 + np.exp(-odds.clip(-700, 700)))

        change = 0.0
        for respect, gamma in gammas.items():
            sums = [expected[gamma == level].sum() + 0.5 for level in levels[respect]]
            shares = np.array(sums) / np.sum(sums)
            change = max(change, float(np.abs(shares - agreement[respect]).max()))
            agreement[respect] = shares
        same = (expected.sum() + 0.5) / (counts.sum() + 1)
        if change < CONVERGED:
            break
    return agreement


def _choose_blocks(prepared: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """Records that share `columns` with others, of so many values as training needs."""
    blocks = (
        prepared.drop_nulls(columns)
        .group_by(columns)
        .agg(size=pl.len().cast(pl.Int64))
        .filter(pl.col("size").is_between(2, MAX_BLOCK))
        .sort(columns)
        .sample(fraction=1, shuffle=True, seed=0)
        .with_columns(pairs=(pl.col("size") * (pl.col("size") - 1) // 2).cum_sum())
        .filter(pl.col("pairs") <= MAX_TRAINING_PAIRS)
    )
    return prepared.join(blocks, on=columns, how="semi", maintain_order="left")


def _frame(rows: SplinkDataFrame) -> pl.DataFrame:
    return pl.DataFrame(rows.as_pyarrow_table())  # type: ignore[no-untyped-call]


def _describe(
    linker: Linker,
    prepared: pl.DataFrame,
    comparisons: list[dict[str, Any]],
    floor: float,
) -> pl.DataFrame:
    """The pairs of rows that the model finds likely enough, and what speaks for them.

    Both rows of the same record come as a pair too.
    """
    found = linker.inference.predict(threshold_match_probability=FAINT)
    pairs = _correct_prior(
        _frame(found),
        linker.misc.save_model_to_json()["probability_two_random_records_match"],
        len(prepared) * (len(prepared) - 1) / 2,
    ).filter(pl.col("match_probability") >= floor)
    respects = [comparison["output_column_name"] for comparison in comparisons]
    agreed = [
        pl.when(pl.col(f"mw_{respect}") > 0).then(pl.lit(respect))
        for respect in respects
    ]
    ids, latest = prepared["record_id"], prepared["is_latest"]
    return pairs.select(
        row=pl.col("unique_id_l").cast(pl.Int64),
        linked_row=pl.col("unique_id_r").cast(pl.Int64),
        record_id=ids.gather(pairs["unique_id_l"]),
        linked_record_id=ids.gather(pairs["unique_id_r"]),
        is_latest=latest.gather(pairs["unique_id_l"]),
        is_linked_latest=latest.gather(pairs["unique_id_r"]),
        match_weight=pl.col("match_weight").round(DECIMALS),
        match_probability=pl.col("match_probability").round(DECIMALS),
        agreed_on=pl.concat_list(agreed).list.drop_nulls(),
    )


def _correct_prior(
    pairs: pl.DataFrame, prior: float, pair_count: float
) -> pl.DataFrame:
    """The pairs, weighed anew by how many of them are likely one person.

    The share that `SURE` finds, and with it the prior, is a guess: the last step of
    expectation maximisation puts in its place what the weights themselves expect.
    """
    weights = pairs["match_weight"].to_numpy()
    started = np.log2(prior / (1 - prior))
    shift = 0.0
    for _ in range(MAX_ITERATIONS):
        odds = 2.0 ** np.minimum(weights + shift, MAX_WEIGHT)
        expected = float((odds / (1 + odds)).sum())
        share = min(max(expected, 1.0) / pair_count, 0.5)
        change, shift = shift, float(np.log2(share / (1 - share)) - started)
        if abs(shift - change) < CONVERGED:
            break
    odds = 2.0 ** np.minimum(weights + shift, MAX_WEIGHT)
    return pairs.with_columns(
        match_weight=weights + shift, match_probability=odds / (1 + odds)
    )


def _choose_links(pairs: pl.DataFrame) -> pl.DataFrame:
    """The best pair of rows of each two records, of rows that speak for theirs."""
    ends = (("row", "is_linked_latest"), ("linked_row", "is_latest"))
    within = pairs.filter(pl.col("record_id") == pl.col("linked_record_id"))
    vouched = pl.concat(within.filter(latest)[row] for row, latest in ends)
    speaks = [
        pl.col(latest) | pl.col(row).is_in(vouched.implode())
        for row, latest in (("row", "is_latest"), ("linked_row", "is_linked_latest"))
    ]
    return (
        pairs.filter(pl.col("record_id") != pl.col("linked_record_id"), *speaks)
        .select(
            pl.min_horizontal("record_id", "linked_record_id").alias("record_id"),
            pl.max_horizontal("record_id", "linked_record_id").alias(
                "linked_record_id"
            ),
            "match_weight",
            "match_probability",
            "agreed_on",
        )
        .cast(CANDIDATES)
        .sort(
            pl.col("match_weight"),
            pl.col("agreed_on").list.join(SEP),
            descending=True,
        )
        .unique(["record_id", "linked_record_id"], keep="first", maintain_order=True)
        .sort("record_id", "linked_record_id")
    )
