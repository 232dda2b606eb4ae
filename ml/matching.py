"""Likely the same person: candidate links between records that share no identifier.

Fellegi and Sunter's model, trained without labels, run by Splink on a DuckDB of its
own. It proposes links with their weight; it merges nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from splink import Linker
    from splink.internals.splink_dataframe import SplinkDataFrame

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RECORDS = pl.Schema(
    {
        "record_id": pl.String(),
        "first_name": pl.String(),
        "last_name": pl.String(),
        "street": pl.String(),
        "city": pl.String(),
        "region": pl.String(),
        "postal_code": pl.String(),
        "birthday": pl.Date(),
    }
)

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

# Of the pairs that are one person, the share that agree exactly as in `SURE`.
RECALL = 0.7

DECIMALS = 6

HOUSE_NUMBER = r"\b\d+[a-z]?\b"
SEP = "\x1f"

# Two records are compared when they share one of these.
BLOCKS = (
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
)

ADDRESS = ("street", "house_number", "city", "postal_code", "region")

# What surely is one person, to begin with.
SURE: tuple[tuple[str, ...], ...] = (
    ("birthday", "first_name", "last_name"),
    ("birthday", "postal_code", "last_name"),
    ("birthday", "postal_code", "first_name"),
    ("first_name", "last_name", "postal_code", "house_number"),
)

# Weights are learnt among pairs that coincide in one respect, about all others.
TRAINING: tuple[tuple[str, ...], ...] = (
    ("birthday",),
    ("first_name", "last_name"),
    ("street", "postal_code"),
)


class TooFewRecordsError(ValueError):
    """The records cannot teach what a coincidence is worth."""


def candidate_links(records: pl.DataFrame, floor: float = 0.5) -> pl.DataFrame:
    """Pairs of records that are one person with a probability of `floor` or more.

    `records` has the columns of `RECORDS`, one row per record, `record_id` unique, the
    others null where nothing is known. One row per pair comes back, `record_id` the
    smaller one: `match_weight` in bits (log2 of the odds), `match_probability`, and
    `agreed_on`, the respects that speak for it. The result is the same for any order
    of the rows.

    Fellegi and Sunter, A Theory for Record Linkage, 1969: what agreement is worth by
    chance is counted on all pairs of a sample, what it is worth among the same people
    by expectation maximisation; rare values are worth more than frequent ones.

    Raises:
        ImportError: if Splink is not installed.
        TooFewRecordsError: if there is too little to learn from.
        ValueError: if `record_id` is null or not unique.
    """
    prepared = prepare_records(records)
    sure = max(_count_pairs(prepared, columns) for columns in SURE)
    training = [
        columns
        for columns in TRAINING
        if _count_pairs(prepared, columns) >= MIN_TRAINING_PAIRS
    ][:2]
    if sure < MIN_SURE_PAIRS or len(training) < 2:
        raise TooFewRecordsError(
            f"{len(prepared)} records with {sure} pairs that surely are one person are "
            f"too few to learn from: matching needs {MIN_SURE_PAIRS} such pairs, and "
            f"{MIN_TRAINING_PAIRS} equal in each of two of birthday, name and address"
        )
    linker = _train(prepared, training)
    return _describe(linker, prepared, floor)


def prepare_records(records: pl.DataFrame) -> pl.DataFrame:
    """Records as they are compared: normalised, sorted, with the blocks they fall in.

    Raises:
        ValueError: if `record_id` is null or not unique.
    """
    frame = records.select(
        pl.col(name).cast(dtype) for name, dtype in RECORDS.items()
    ).sort("record_id")
    if frame["record_id"].null_count() or frame["record_id"].is_duplicated().any():
        raise ValueError("every record needs a record_id of its own")

    texts = [name for name in RECORDS if name not in ("record_id", "birthday")]
    return (
        frame.with_columns(_words(pl.col(name)).alias(name) for name in texts)
        .with_columns(
            _joined(pl.col("first_name", "last_name", "postal_code")),
            house_number=pl.col("street").str.extract(f"({HOUSE_NUMBER})"),
            street=_joined(pl.col("street").str.replace(HOUSE_NUMBER, "")),
            birthday=pl.col("birthday").dt.to_string("%Y%m%d"),
        )
        .with_columns(
            names=pl.when(
                pl.col("first_name").is_null() | pl.col("last_name").is_null()
            )
            .then(None)
            .otherwise(
                pl.concat_list("first_name", "last_name").list.sort().list.join(SEP)
            )
        )
        .with_columns(
            _block(columns).alias(f"block_{number}")
            for number, columns in enumerate(BLOCKS)
        )
        .with_row_index("unique_id")
        .pipe(_with_street_bits)
    )


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


def _comparisons() -> list[dict[str, Any]]:
    """How two records are compared: for each respect, from equal to different."""
    near = "jaro_winkler_similarity({0}_l, {0}_r) >= {1}"
    shared = (
        "(bit_count(street_bits_0_l & street_bits_0_r)"
        " + bit_count(street_bits_1_l & street_bits_1_r))"
        " / least(street_bit_count_l, street_bit_count_r)"
    )
    return [
        _comparison(
            "first_name",
            "first_name_l = last_name_r",
            near.format("first_name", 0.92),
            near.format("first_name", 0.8),
        ),
        _comparison(
            "last_name",
            "last_name_l = first_name_r",
            near.format("last_name", 0.92),
            near.format("last_name", 0.8),
        ),
        _comparison(
            "birthday",
            "hamming(birthday_l, birthday_r) = 1",
            "hamming(birthday_l, birthday_r) = 2",
        ),
        _comparison("street", f"{shared} >= 0.8", f"{shared} >= 0.5"),
        _comparison("house_number"),
        _comparison("city", near.format("city", 0.88)),
        _comparison("postal_code", near.format("postal_code", 0.85)),
        _comparison("region"),
    ]


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


def _count_chance(prepared: pl.DataFrame) -> dict[str, Any]:
    """The model with what agreement is worth by chance (u), from pairs of a sample."""
    sample = prepared.sample(min(U_SAMPLE, len(prepared)), seed=0, shuffle=True)
    linker = _start_splink(
        sample,
        {
            "link_type": "dedupe_only",
            "comparisons": _comparisons(),
            "blocking_rules_to_generate_predictions": [
                f"l.block_{number} = r.block_{number}" for number in range(len(BLOCKS))
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


def _train(prepared: pl.DataFrame, training: list[tuple[str, ...]]) -> Linker:
    """Learn what agreement is worth among the same people (m), and how many there are.

    The m of a level is the mean of what the kinds of pairs in `training` teach.
    """
    model = _count_chance(prepared)
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
        [_equal(columns) for columns in SURE], recall=RECALL
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


def _describe(linker: Linker, prepared: pl.DataFrame, floor: float) -> pl.DataFrame:
    """The pairs that the model finds likely enough, and what speaks for them."""
    found = linker.inference.predict(threshold_match_probability=floor)
    pairs = _frame(found)
    respects = [comparison["output_column_name"] for comparison in _comparisons()]
    agreed = [
        pl.when(pl.col(f"mw_{respect}") > 0).then(pl.lit(respect))
        for respect in respects
    ]
    record_ids = prepared["record_id"]
    return (
        pairs.select(
            record_id=record_ids.gather(pairs["unique_id_l"]),
            linked_record_id=record_ids.gather(pairs["unique_id_r"]),
            match_weight=pl.col("match_weight").round(DECIMALS),
            match_probability=pl.col("match_probability").round(DECIMALS),
            agreed_on=pl.concat_list(agreed).list.drop_nulls(),
        )
        .cast(CANDIDATES)
        .sort("record_id", "linked_record_id")
    )
