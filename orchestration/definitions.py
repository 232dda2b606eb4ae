"""What Dagster opens: loads the parts, nothing else."""

import dagster as dg

from orchestration import checks
from orchestration.assets import (
    activate,
    channel_scores,
    erased,
    land,
    publish,
    report,
    score,
)
from orchestration.assets.transform import transform
from orchestration.jobs import dead_runs, every_quarter_hour, loop, new_files
from orchestration.progress import progress_logger
from orchestration.resources import Home, dbt_project, dbt_resource
from orchestration.settings import Settings

settings = Settings()
project = dbt_project(settings)

defs = dg.Definitions(
    assets=[
        *dg.load_assets_from_modules(
            [land, erased, score, channel_scores, activate, publish, report]
        ),
        *transform(project),
    ],
    asset_checks=dg.load_asset_checks_from_modules([land, checks]),
    jobs=[loop],
    schedules=[every_quarter_hour(settings)],
    sensors=[new_files(settings), dead_runs(settings)],
    resources={"home": Home(), "dbt": dbt_resource(project)},
    loggers={"progress": progress_logger, "console": dg.colored_console_logger},
    executor=dg.in_process_executor,
)
