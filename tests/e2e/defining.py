"""Publishes definitions of models as a build does, but without a build: the SQL is all there is."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lakehouse import Lake
from lakehouse.core.commit import Commit
from lakehouse.core.definition import Definition, to_json
from lakehouse.models.place import Place
from lakehouse.models.references import references


def defined(lake: Lake, sqls: Mapping[str, str], **said: Any) -> list[Definition]:
    """Definitions of models from their SQL: views, unless `said` says something else of all of them."""
    tables = [f"{source}.{table}" for source in lake.sources() for table in lake.log(source).tables]
    return [
        Definition(
            name=name,
            path=f"models/{name}.sql",
            sql=sql,
            references=references(
                sql,
                models=sqls,
                tables=lambda: tables,
                where=Place(path=f"models/{name}.sql", line=1),
                itself=name,
            ),
            **said,
        )
        for name, sql in sqls.items()
    ]


def publish(lake: Lake, sqls: Mapping[str, str], *, at: datetime | None = None, **said: Any) -> Commit:
    """Put definitions in force, in the place of those that were."""
    load = lake.load("models", observed_at=at)
    load.pipeline = to_json(defined(lake, sqls, **said))
    return load.publish()
