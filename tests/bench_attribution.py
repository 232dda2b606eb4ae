"""How fast attribution is beside another library, measured in one run.

Both begin with the same paths, generated, in their own form: ours as the table
`attribution.paths`, theirs as a frame of path texts. The removal effects of order 1 are
set against one call of ChannelAttribution 2.2.5, which simulates them; all models
together, down to `attribution.channel_performance`, against one such call. SQL is that
of the models. The other library is GPL: it has an environment of its own, made here,
and is no dependency.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from ml.markov import removal_effects
from orchestration.settings import PROJECT
from tests.resolving import run_dbt

CHANNELS = [f"channel_{number:02}" for number in range(12)]
MEAN_LENGTH = 3.7
CONVERSION_RATE = 0.1
MODELS = ("path_counts", "touch_weights", "credits", "channel_performance")
THEIRS = PROJECT / ".channel-attribution"
THEIR_CALL = """
import json, sys, time
import pyarrow.parquet as pq
from ChannelAttribution import markov_model
paths = pq.read_table(sys.argv[1]).to_pandas()
wall, cpu = time.perf_counter(), time.process_time()
found = markov_model(
    paths, "path", "converted", var_null="lost", order=1, sep=">", seed=1,
    verbose=False, flg_pro=False, out_more=True,
)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
effects = found["removal_effects"].set_index("channel_name")["removal_effect"]
print(json.dumps({"wall": wall, "cpu": cpu, "effects": effects.to_dict()}))
"""


def deal_paths(count: int, seed: int) -> pa.Table:
    """Paths of channels, some oftener than others, of geometric length."""
    dice = np.random.default_rng(seed)
    lengths = dice.geometric(1 / MEAN_LENGTH, count)
    chances = dice.dirichlet(np.full(len(CHANNELS), 3))
    channels = dice.choice(len(CHANNELS), lengths.sum(), p=chances).astype(np.int8)
    starts = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.table(
        {
            "path": np.arange(count),
            "channels": pa.ListArray.from_arrays(
                pa.array(starts), pa.array(CHANNELS).take(pa.array(channels))
            ),
            "converts": dice.random(count) < CONVERSION_RATE,
        }
    )


def write_tables(
    connection: duckdb.DuckDBPyConnection, dealt: pa.Table, texts: Path
) -> None:
    """What the models read, and for the other library the texts of the paths."""
    connection.register("dealt", dealt)
    for statement in f"""
        create schema attribution;
        create schema seeds;
        create table seeds.attribution_rules as
        from '{PROJECT / "dbt_project/seeds/attribution_rules.csv"}';
        create table attribution.paths as select
            cast(path as varchar) as path_id,
            if(converts, 'path_to_conversion', 'path_to_non_conversion') as path_kind,
            array_to_string(
                list_transform(
                    channels, lambda name: chr(97 + cast(right(name, 2) as integer))
                ), ''
            ) as channel_sequence
        from dealt;
        create table attribution.channel_letters as select
            'channel_' || right('0' || number, 2) as channel, chr(97 + number) as letter
        from (select cast(range as integer) as number from range({len(CHANNELS)}));
        create table attribution.conversions as select
            cast(path as varchar) as conversion_id, 'p' || path as profile_id,
            timestamp '2024-06-01' as converted_at,
            cast(path % 10000 / 100 as decimal(18, 2)) as revenue_amount
        from dealt where converts;
        create table attribution.touchpoints as select
            path || '-' || position as touchpoint_id, path, converts, position, channel,
            len(channels) as touch_count,
            timestamp '2024-06-01' - to_hours(6 * (len(channels) - position))
                as touched_at,
            cast(null as varchar) as campaign, cast(null as varchar) as journey,
            cast(null as varchar) as step
        from (
            select path, converts, channels, unnest(channels) as channel,
                unnest(range(1, len(channels) + 1)) as position
            from dealt
        );
        create table attribution.paths_to_conversion as select
            cast(path as varchar) as path_id, touchpoint_id, channel, touched_at,
            timestamp '2024-06-01' as converted_at, position, touch_count,
            count(*) over (partition by path, channel) as channel_touch_count
        from attribution.touchpoints where converts;
        create table attribution.removal_effects (
            markov_order integer, channel varchar, removal_effect double, share double
        );
        copy (
            select array_to_string(channels, ' > ') as path,
                cast(converts as integer) as converted,
                1 - cast(converts as integer) as lost
            from dealt
        ) to '{texts}' (format parquet);
    """.split(";"):
        connection.execute(statement)


def create_models(connection: duckdb.DuckDBPyConnection, warehouse: Path) -> None:
    """The models that stand between paths and the performance of channels, as views."""
    connection.close()
    compiled = run_dbt(warehouse, "compile", "--select", *MODELS)
    connection = duckdb.connect(str(warehouse))
    for name in MODELS:
        sql = (compiled / "attribution" / f"{name}.sql").read_text()
        connection.execute(f"create view attribution.{name} as {sql}")
    connection.close()


def find_effects(warehouse: Path, orders: list[int]) -> pl.DataFrame:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        paths = connection.sql("from attribution.path_counts").pl()
        letters = connection.sql("from attribution.channel_letters").pl()
    return removal_effects(paths, letters, orders)


def attribute_by_all(warehouse: Path) -> pl.DataFrame:
    effects = find_effects(warehouse, [1, 2, 3])
    with duckdb.connect(str(warehouse)) as connection:
        connection.register("effects", effects)
        connection.execute("delete from attribution.removal_effects")
        connection.execute("insert into attribution.removal_effects from effects")
        return connection.sql("from attribution.channel_performance").pl()


def clocked(work: Callable[[], pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def ask_the_other_library(texts: Path) -> dict[str, Any]:
    python = THEIRS / "bin" / "python"
    if not python.exists():
        uv = str(PROJECT / ".venv" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", str(THEIRS)], check=True)
        subprocess.run(
            [
                *(uv, "pip", "install", "--quiet", "--python", str(python)),
                *("ChannelAttribution==2.2.5", "matplotlib", "pyarrow"),
            ],
            check=True,
        )
    told = subprocess.run(
        [str(python), "-c", THEIR_CALL, str(texts)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    answer: dict[str, Any] = json.loads(told.splitlines()[-1])
    return answer


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--paths", type=int, default=10_000_000)
    arguments.add_argument("--seed", type=int, default=7)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warehouse, texts = Path(folder) / "warehouse.duckdb", Path(folder) / "paths.pq"
        dealt = deal_paths(asked.paths, asked.seed)
        touches = len(dealt["channels"].combine_chunks().flatten())
        connection = duckdb.connect(str(warehouse))
        write_tables(connection, dealt, texts)
        del dealt
        create_models(connection, warehouse)

        effects, ours = clocked(lambda: find_effects(warehouse, [1]))
        performance, everything = clocked(lambda: attribute_by_all(warehouse))
        theirs = ask_the_other_library(texts)

    credited = performance.group_by("attribution_model").agg(
        pl.col("conversion_count", "revenue_amount").sum()
    )
    if credited.n_unique(["conversion_count", "revenue_amount"]) != 1:
        raise SystemExit(f"the models do not credit the same:\n{credited}")
    apart = max(
        abs(effect - theirs["effects"][channel])
        for channel, effect in effects.select("channel", "removal_effect").iter_rows()
    )
    print(f"{asked.paths:,} paths, {touches:,} touches, {len(CHANNELS)} channels")
    for name, clock in (
        ("Markov order 1", ours),
        (f"{len(credited)} models, Markov orders 1-3", everything),
        ("ChannelAttribution 2.2.5, order 1", theirs),
    ):
        print(f"{name:36} {clock['wall']:7.2f} s wall {clock['cpu']:7.2f} s CPU")
    print(f"order 1 is {theirs['wall'] / ours['wall']:.1f} times as fast (wall)")
    print(f"all together {theirs['wall'] / everything['wall']:.1f} times (wall)")
    print(f"removal effects are up to {apart:.3f} from the simulated ones")


if __name__ == "__main__":
    main()
