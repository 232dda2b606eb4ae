"""The map of all tables, `docs/tables.md`, from what dbt knows of them.

Run with `make table-map`; a test holds the page against the models.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.assets import activate, channel_scores, erased, land, score
from orchestration.resources import dbt_project
from orchestration.settings import PROJECT, Settings

PAGE = PROJECT / "docs" / "tables.md"
LAYERS = (
    ("raw", "what arrived"),
    ("staging", "the facts as landed, typed and named"),
    ("identity", "which identifiers are one person"),
    ("profiles", "what we know of each person"),
    ("ml", "what they are likely to do"),
    ("decisions", "phases, journeys, verdicts, the send list"),
    ("activations", "what went out"),
    ("attribution", "what earned it"),
    ("seeds", "thresholds and words, to be edited"),
)
HEAD = """# Tables: what each holds, and what it reads

Written by `make table-map` from the descriptions beside the models. The names that
others rely on stand in the [contract](contract.md).
"""


def table_map(manifest: dict[str, Any]) -> str:
    """The page: per layer, each table with its first sentence and its parents."""
    nodes = {**manifest["nodes"], **manifest["sources"]}
    tables = {address(node): node for node in nodes.values() if is_table(node)}
    for spec in python_assets():
        tables[".".join(spec.key.path)] = {"description": spec.description or ""}
    page = [HEAD]
    for layer, title in LAYERS:
        page += [
            f"## `{layer}`: {title}",
            "",
            "| table | rows | reads |",
            "|---|---|---|",
        ]
        for name in sorted(tables):
            if name.startswith(f"{layer}."):
                node = tables[name]
                parents = node.get("depends_on", {}).get("nodes", [])
                reads = sorted({address(nodes[parent]) for parent in parents})
                page.append(
                    f"| `{name}` | {first_sentence(node['description'])} "
                    f"| {', '.join(reads)} |"
                )
        page.append("")
    return "\n".join(page)


def is_table(node: dict[str, Any]) -> bool:
    """Whether dbt builds or reads it."""
    return node["resource_type"] in ("model", "seed", "source")


def python_assets() -> Iterator[dg.AssetSpec]:
    """What Python writes: raw, identity.erased_profiles, ml and activations."""
    for module in (land, erased, score, channel_scores, activate):
        for definition in vars(module).values():
            if isinstance(definition, dg.AssetsDefinition):
                yield from definition.specs


def address(node: dict[str, Any]) -> str:
    """Schema and table."""
    return f"{node['schema']}.{node['name']}"


def first_sentence(description: str) -> str:
    """What one row is."""
    text = " ".join(description.split()).replace("|", "\\|")
    return re.split(r"(?<=\.)\s", text)[0].rstrip(".")


def read_manifest(home: Path) -> dict[str, Any]:
    """What dbt knows of the project, parsed in a home of its own."""
    project = dbt_project(Settings(home=home, _env_file=None))
    manifest: dict[str, Any] = json.loads(project.manifest_path.read_text())
    return manifest


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as home:
        PAGE.write_text(table_map(read_manifest(Path(home))))


if __name__ == "__main__":
    main()
