"""Models on Apache Spark: the SQL of a model, written for DuckDB, translated and run over the lake's own files.

`Spark` is the engine. What it answers is what DuckDB answers; where that cannot be promised, the model is
refused: `translate.py` and its neighbours only let through what they know to mean the same in both.
"""

from lakehouse.models.spark.engine import Spark

__all__ = ["Spark"]
