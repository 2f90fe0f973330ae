"""`python -m ingest.shopsite [--day D] [--port P]`: serve the demonstration shop until Ctrl+C."""

import argparse
import threading
from contextlib import suppress
from datetime import UTC, date, datetime

from ingest.shopsite import serve


def main() -> None:
    """Serve the shop for a browser."""
    parser = argparse.ArgumentParser(prog="python -m ingest.shopsite", description=__doc__)
    parser.add_argument(
        "--day",
        type=date.fromisoformat,
        default=datetime.now(UTC).date(),
        help="the day to show, as YYYY-MM-DD (default: today)",
    )
    parser.add_argument("--port", type=int, default=8008, help="port on 127.0.0.1 (default: 8008)")
    options = parser.parse_args()
    with serve(options.day, port=options.port) as url, suppress(KeyboardInterrupt):
        print(f"The shop as of {options.day}: {url} (Ctrl+C ends it)", flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
