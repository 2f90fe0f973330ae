"""How dlt is set up before it is imported: quiet, cheap in between, and leaving nothing behind.

dlt reads most of this from the environment, some of it at import; so whoever imports dlt in this
package calls `set_dlt_defaults` first. What the user has set already is left alone.
"""

import os

_DEFAULTS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "DATA_WRITER__DISABLE_COMPRESSION": "true",  # between the steps; compressing costs more than it saves
    "DATA_WRITER__BUFFER_MAX_ITEMS": "100000",  # one row group per buffer: dlt's 5,000 rows are too few
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


def set_dlt_defaults() -> None:
    """Set what the environment does not say already. Has to run before dlt is imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
