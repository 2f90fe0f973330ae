"""How a model that Spark cannot run is refused: with its file, the line and what is in the way."""

from typing import TYPE_CHECKING

from lakehouse.errors import UserError

if TYPE_CHECKING:
    from sqlglot import exp

    from lakehouse.models.model import Model

HINT = "Write it in another way, or build without --engine spark: DuckDB runs all of its SQL."


class Refusal(Exception):  # noqa: N818  (it is no error until the model is named)
    """Something in a SELECT that is not known to mean the same in Spark.

    Args:
        what: The construct and why, such as `median(…)`.
        node: Where it is.
        hint: What to write instead.
    """

    def __init__(self, what: str, node: "exp.Expr | None" = None, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.node = node
        self.hint = hint


def refused(model: "Model", refusal: Refusal) -> UserError:
    """The error that a refusal is."""
    line = model.line + (_line(refusal.node) - 1)
    return UserError(
        f"{model.path}:{line}: models.{model.name} cannot be built with Spark: {refusal.what}",
        hint=refusal.hint or HINT,
    )


def _line(node: "exp.Expr | None") -> int:
    """The line of a SELECT, from 1, that a part of it is on: the first of what lies in it, or around it."""
    while node is not None:
        lines = [inner.meta["line"] for inner in node.walk() if "line" in inner.meta]
        if lines:
            return int(min(lines))
        node = node.parent
    return 1
