#!/usr/bin/env bash
# Lives the demo, runs its last moment once more, and fails if any table changed.
set -euo pipefail
cd "$(dirname "$0")/.."
REKINDLE_HOME=$(mktemp -d)
export REKINDLE_HOME
trap 'rm -rf "$REKINDLE_HOME"' EXIT

.venv/bin/rekindle demo
before=$(.venv/bin/python -m tests.tables "$REKINDLE_HOME/warehouse.duckdb")
as_of=$(.venv/bin/python -m tests.tables "$REKINDLE_HOME/warehouse.duckdb" --as-of)
.venv/bin/rekindle run --as-of "$as_of"
after=$(.venv/bin/python -m tests.tables "$REKINDLE_HOME/warehouse.duckdb")
diff <(echo "$before") <(echo "$after") && echo "a second run changed nothing"
