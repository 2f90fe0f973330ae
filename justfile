# Everything one does here. `uv run just` lists it; `uv run just ingest` needs nothing else.

[private]
default:
    @just --list --unsorted

# Scrape the sources and load them
[no-exit-message]
ingest *ARGS:
    @lakehouse ingest "$@"

# Ask the lake: just query "select * from shop.products"
[no-exit-message]
query +ARGS:
    @lakehouse query "$@"

# Build the models that are out of date
[no-exit-message]
build *ARGS:
    @lakehouse build "$@"

# Send what the mirrors lack: all of them, or those that are named
[no-exit-message]
sync *ARGS:
    @lakehouse sync "$@"

# Any other command of the lakehouse: just lake log shop
[no-exit-message]
lake +ARGS:
    @lakehouse "$@"

# All tests, from nothing
test *ARGS:
    uv run --group engines pytest -n 2 -m "not soak" "$@"

# The long scenarios: whole histories, big kill matrices
soak *ARGS:
    uv run --group engines pytest -m soak "$@"

# Style, types, layers
check:
    ruff check
    ruff format --check
    mypy
    lint-imports

# Mend what can be mended
fix:
    ruff check --fix
    ruff format

# Ratios against peers, side by side in one run
bench *ARGS:
    uv run --group bench python tests/bench/run.py "$@"

set positional-arguments
