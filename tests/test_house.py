"""The rules of the house hold: who imports whom, what reads what, what is told."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT
from tests.table_map import PAGE, read_manifest, table_map

PACKAGES = ("orchestration", "ml", "activations")
LAYERS_BELOW = {
    "seeds": set(),
    "staging": {"raw", "staging", "seeds"},
    "identity": {"staging", "identity", "seeds"},
    "profiles": {"identity", "staging", "profiles", "seeds"},
    "decisions": {"profiles", "identity", "staging", "ml", "decisions", "seeds"},
    "attribution": {
        "identity",
        "profiles",
        "staging",
        "decisions",
        "attribution",
        "seeds",
    },
}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            yield path.relative_to(PROJECT), ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots.add((node.module or "").split(".")[0])
    return roots


def test_only_orchestration_knows_dagster_the_warehouse_and_the_others() -> None:
    for path, tree in modules():
        package = path.parts[0]
        if package == "orchestration":
            continue
        others = {"orchestration", "ml", "activations"} - {package}
        forbidden = imported(tree) & {"dagster", "dagster_dbt", "duckdb", *others}
        assert not forbidden, f"{path} imports {forbidden}"


def test_only_the_warehouse_module_imports_duckdb() -> None:
    importers = [str(path) for path, tree in modules() if "duckdb" in imported(tree)]
    assert importers == ["orchestration/warehouse.py"]


def test_what_dagster_loads_imports_no_learner() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from orchestration import checks, jobs\n"
            "from orchestration.assets import activate, channel_scores, land, publish\n"
            "from orchestration.assets import score\n"
            "print(*{name.split('.')[0] for name in sys.modules})",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds_each = {"sklearn", "scipy", "skops", "pandas", "splink"}
    assert not seconds_each & set(loaded.stdout.split())


FORMER_NAMES = re.compile(
    r"""\b(ml\.moment_scores|moment_propensity|better_moments?|slot_engagements|
    profiles[./]moments|reach_features|phase_spells|phase_ticks|phase_steps|
    credit_stretches|answered_messages|message_contacts|contested_profiles|
    identifier_sightings|policy_trials|culprit_seq|told_by|half_key|evidence_epoch|
    stops_on|tell_\w+|forget_stale_identity|starts_afresh|bring_sends|start_over|
    take_apart|look_again|sift|portray|PORTRAITS|KeptEventLog|ServedDbt|LEFT_OUT|
    stg_journey_conditions|raw\.journey_conditions|audience_(rules|facts|operands|
    conditions|matches)|cumulative_weights|try_out|(MOST|FEWEST|LEAST)_[A-Z]\w+|hand_over|give_up)\b""",
    re.VERBOSE,
)


def test_nothing_goes_by_a_former_name() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in tracked.stdout.split("\0")[:-1]:
        path = PROJECT / name
        if name in ("CHANGELOG.md", "tests/test_house.py") or not path.is_file():
            continue
        found = FORMER_NAMES.search(f"{name}\n{path.read_text()}")
        assert not found, f"{name}: {found.group()}"


def reads_environment(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "getenv":
            return True
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Load)
            and ast.unparse(node.value) == "os.environ"
        ):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get":
            return True
    return False


def test_only_settings_read_the_environment() -> None:
    readers = [str(path) for path, tree in modules() if reads_environment(tree)]
    assert readers == []


CLOCKS = re.compile(
    r"\b(now\(|current_date|current_timestamp|random\(|uuid\(|date\.today|"
    r"datetime\.today|time\.time\()",
)
WALL_CLOCK_MODULES = {"orchestration/settings.py"}


def test_no_wall_clock_and_no_chance_outside_settings() -> None:
    sources = [
        *(PROJECT / "models").rglob("*.sql"),
        *(PROJECT / "dbt_project" / "macros").rglob("*.sql"),
        *(PROJECT / "dbt_project" / "tests").rglob("*.sql"),
        *(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py")),
    ]
    for path in sources:
        name = str(path.relative_to(PROJECT))
        if name not in WALL_CLOCK_MODULES:
            found = CLOCKS.search(path.read_text())
            assert not found, f"{name} reads a clock or chance: {found.group()}"


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return read_manifest(tmp_path_factory.mktemp("house"))


def test_the_map_of_tables_is_that_of_the_models(manifest: dict[str, Any]) -> None:
    assert PAGE.read_text() == table_map(manifest), "write it anew: make table-map"


def layer(node: dict[str, Any]) -> str:
    return node["source_name"] if node["resource_type"] == "source" else node["schema"]


def test_models_read_downward_only(manifest: dict[str, Any]) -> None:
    nodes = {**manifest["nodes"], **manifest["sources"]}
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model":
            continue
        for parent in node["depends_on"]["nodes"]:
            below = LAYERS_BELOW[layer(node)]
            assert layer(nodes[parent]) in below, f"{node['name']} reads {parent}"


def test_the_manifest_holds_exactly_the_files_in_models(
    manifest: dict[str, Any],
) -> None:
    known = {
        node["original_file_path"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }
    files = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "models").rglob("*")
        if path.suffix in {".sql", ".py"}
    }
    assert known == files


def test_every_model_says_what_one_row_is_and_every_column_what_it_means(
    manifest: dict[str, Any],
) -> None:
    for node in manifest["nodes"].values():
        if node["resource_type"] not in {"model", "seed"}:
            continue
        assert node["description"].startswith("One row"), node["name"]
        for column in node["columns"].values():
            assert column["description"], f"{node['name']}.{column['name']}"


def test_every_model_outside_staging_has_a_contract(manifest: dict[str, Any]) -> None:
    for node in manifest["nodes"].values():
        if (
            node["resource_type"] == "model"
            and node["schema"] != "staging"
            and node["language"] == "sql"
        ):
            assert node["contract"]["enforced"], node["name"]


def test_every_sql_test_is_a_check_on_a_table(manifest: dict[str, Any]) -> None:
    for node in manifest["nodes"].values():
        if node["resource_type"] != "test" or "after_activation" in node["tags"]:
            continue
        attached = node.get("attached_node") or (
            node["config"]["meta"].get("dagster", {}).get("ref")
        )
        parents = set(node["depends_on"]["nodes"])
        assert attached or len(parents) == 1, f"{node['name']} is shown on no asset"
