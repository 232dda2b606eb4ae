"""When things run: the only code that knows Dagster."""
