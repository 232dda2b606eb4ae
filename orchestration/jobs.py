"""The one job of the loop, and what starts it and keeps it going."""

import dagster as dg

from orchestration.recovery import fail_dead_runs
from orchestration.settings import Settings
from orchestration.sources.landing import landing_fingerprint

loop = dg.define_asset_job(
    "loop",
    selection=dg.AssetSelection.all(),
    description="One run of the whole loop over what has landed.",
)


def every_quarter_hour(settings: Settings) -> dg.ScheduleDefinition:
    """Run the loop every 15 minutes; off in a demo home, whose clock is the world's."""
    return dg.ScheduleDefinition(
        name="every_quarter_hour",
        job=loop,
        cron_schedule="*/15 * * * *",
        execution_timezone="UTC",
        default_status=(
            dg.DefaultScheduleStatus.STOPPED
            if settings.demo_marker.exists()
            else dg.DefaultScheduleStatus.RUNNING
        ),
    )


def new_files(settings: Settings) -> dg.SensorDefinition:
    """Run the loop when the landing folder changed; off in a demo home."""

    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        fingerprint = landing_fingerprint(settings.landing)
        if fingerprint == context.cursor:
            return dg.SkipReason("No new file in the landing folder.")
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_key=fingerprint)], cursor=fingerprint
        )

    return dg.SensorDefinition(
        name="new_files",
        job=loop,
        evaluation_fn=look,
        minimum_interval_seconds=30,
        default_status=(
            dg.DefaultSensorStatus.STOPPED
            if settings.demo_marker.exists()
            else dg.DefaultSensorStatus.RUNNING
        ),
    )


def dead_runs(settings: Settings) -> dg.SensorDefinition:
    """Record that runs have failed whose process died, so that the queue goes on."""

    def look(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        dead = fail_dead_runs(settings, context.instance)
        if dead:
            return dg.SkipReason(f"Recorded as failed: {', '.join(dead)}.")
        return dg.SkipReason("Every unfinished run is at work.")

    return dg.SensorDefinition(
        name="dead_runs",
        # it starts nothing, and Dagster wants a target all the same
        job=loop,
        evaluation_fn=look,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
