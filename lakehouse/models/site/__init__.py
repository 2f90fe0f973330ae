"""A static catalogue of the lake and its models: one HTML file that needs no server."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import SetupError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["write"]


def write(catalogue: "Mapping[str, Any]", folder: Path) -> Path:
    """Write the page of a catalogue into a folder; it is replaced as a whole.

    Args:
        catalogue: What `catalogue.collect` gives.
        folder: Made if it is not there.

    Returns:
        The file.

    Raises:
        UserError: There is a page of somebody else.
        SetupError: The folder cannot be written to.
    """
    from lakehouse.models.site.page import MARK, render

    path = folder / "index.html"
    try:
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
            raise UserError(
                f"{path}: is there already, and is no catalogue", hint="Name another folder with -o DIR."
            )
        folder.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(render(catalogue), encoding="utf-8", newline="\n", errors="replace")
        os.replace(new, path)
    except OSError as error:
        raise SetupError(
            f"{path}: cannot be written ({error})", hint="Name another folder with -o DIR."
        ) from error
    return path
