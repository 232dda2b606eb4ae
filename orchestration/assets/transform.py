"""The dbt models as assets: stage, resolve, profile, decide, attribute."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)

from orchestration.charts import chart_metadata
from orchestration.dbt import export_to_dbt
from orchestration.progress import report_part
from orchestration.resources import Home
from orchestration.sources.run_inputs import (
    invalidate_identity_state,
    invalidate_seeds,
    note_loaded_seeds,
)
from orchestration.warehouse import fetch_frame

LANDED = dg.AssetKey(["raw", "current_run"])
AFTER_ACTIVATION = "tag:after_activation"
FROM_SCORES = "source:ml+"


class TableTranslator(DagsterDbtTranslator):
    """Asset key = table address; group = layer."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """`profiles/rfm` for the table `profiles.rfm`."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        """As dbt says; seeds wait for the landing, which saves one run of dbt."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id.startswith("seed."):
            return spec.replace_attributes(deps=[dg.AssetDep(LANDED)])
        return spec

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The layer, which is the schema."""
        return str(dbt_resource_props["schema"])

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """What one row is; the SQL is a click away in the repository."""
        return str(dbt_resource_props["description"]).strip()


def transform(project: DbtProject) -> list[dg.AssetsDefinition]:
    """The dbt models as two definitions: Python scores between them.

    Split by Dagster instead, each would name its models one by one, and dbt would look
    for every name among all.
    """
    return [
        models_of(
            project, name="transform", exclude=f"{FROM_SCORES} {AFTER_ACTIVATION}"
        ),
        models_of(project, name="decide", select=FROM_SCORES, exclude=AFTER_ACTIVATION),
    ]


def models_of(
    project: DbtProject, *, name: str, exclude: str, select: str = "fqn:*"
) -> dg.AssetsDefinition:
    """The models that dbt selects, built in one invocation.

    Raises:
        DagsterDbtCliRuntimeError: if a model or a test of severity error fails.
    """

    @dbt_assets(
        manifest=project.manifest_path,
        project=project,
        name=name,
        select=select,
        exclude=exclude,
        dagster_dbt_translator=TableTranslator(
            DagsterDbtTranslatorSettings(enable_code_references=True)
        ),
    )
    def built_models(
        context: dg.AssetExecutionContext,
        dbt: dg.ResourceParam[DbtCliResource],
        home: Home,
    ) -> Iterator[Any]:
        with home.warehouse.connect() as connection:
            full_refresh = invalidate_identity_state(connection)
            loads_seeds = invalidate_seeds(connection, is_subset=context.is_subset)
        export_to_dbt(home.settings, home.warehouse.path)
        invocation = dbt.cli(
            [
                *("build", "--no-write-json"),
                *(["--full-refresh"] if full_refresh else []),
                *("--exclude-resource-type", "unit_test"),
                *([] if loads_seeds else ["seed"]),
                *("--exclude", AFTER_ACTIVATION),
            ],
            context=context,
            target_path=home.settings.dbt_target,
        )
        built = []
        selected = context.selected_asset_keys, context.selected_asset_check_keys
        total = sum(map(len, selected))
        for done, event in enumerate(invocation.stream(), start=1):
            report_part(done, total)
            if isinstance(event, dg.Output | dg.AssetMaterialization):
                built.append(event)
            else:
                yield event
        home.record(context)
        if not loads_seeds:
            yield from keep_seeds(home, selected[0])
        elif not context.is_subset:
            with home.warehouse.connect() as connection:
                note_loaded_seeds(connection)
        yield from describe_tables(home, invocation.manifest, built)

    return built_models


def keep_seeds(
    home: Home, selected: AbstractSet[dg.AssetKey]
) -> Iterator[dg.MaterializeResult[None]]:
    """Say of each seed that was not loaded anew, as nothing had changed, that it holds.

    What reads it would be skipped by Dagster otherwise.
    """
    with home.warehouse.connect(read_only=True) as connection:
        for key in sorted(selected):
            schema, table = key.path
            if schema == "seeds":
                rows = fetch_frame(
                    connection, f"select count(*) as rows from {schema}.{table}"
                )
                yield dg.MaterializeResult(
                    asset_key=key, metadata={"dagster/row_count": rows.item()}
                )


def describe_tables(
    home: Home, manifest: Mapping[str, Any], built: list[Any]
) -> Iterator[Any]:
    """Add to each table's event how many rows it has and how it looks.

    Comes after dbt has ended: only then the warehouse can be opened.
    """
    with home.warehouse.connect(read_only=True) as connection:
        for event in built:
            node = manifest["nodes"][event.metadata["unique_id"].value]
            address = f"{node['schema']}.{node['name']}"
            count = fetch_frame(connection, f"select count(*) as rows from {address}")
            yield event.with_metadata(
                {
                    **event.metadata,
                    **chart_metadata(address, connection),
                    "dagster/row_count": count.item(),
                }
            )
