"""When things run: the only code that knows Dagster."""

import os

# What runs write holds personal data: it is its user's alone, whichever way a process
# came to this package: the command line, Dagster's code location, dbt's server.
os.umask(0o077)
