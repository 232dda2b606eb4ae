"""The report: what this run found, as pages that open in any browser."""

import dagster as dg

from orchestration.resources import Home


@dg.asset(
    key=["published", "report"],
    group_name="activations",
    deps=[dg.AssetKey(["published", "warehouse"])],
    owners=["lifecycle@example.com"],
    kinds={"html"},
)
def report(context: dg.AssetExecutionContext, home: Home) -> dg.MaterializeResult[None]:
    """A page per finding, read from the published copy; `rekindle report` opens it.

    A dry run, or one of the past, leaves the report of the newest run as it is.
    """
    if home.is_aside:
        context.log.info("A dry run, or one of the past: the report stays as it is.")
        return dg.MaterializeResult()
    # drawn by what no other part of a run needs
    from orchestration.report.writing import write_report

    settings = home.settings
    with home.warehouse.connect(read_only=True) as connection:
        pages = write_report(connection, settings)
    files = [*settings.report.iterdir(), *settings.people.iterdir()]
    findings = "\n".join(f"- **{page.name}**: {page.finding}" for page in pages)
    return dg.MaterializeResult(
        metadata={
            "open": dg.MetadataValue.path(settings.report / "index.html"),
            "findings": dg.MetadataValue.md(findings),
            "size_bytes": sum(path.stat().st_size for path in files),
        }
    )
