"""Run by Spark's own Python: reads exported tables and writes their rows as a pickle.

`python spark_reading.py OUT KIND:LOCATION@VERSION …`, where VERSION is a Delta version or an Iceberg snapshot.
Iceberg is read by Iceberg's Spark runtime, whose jar a package brings. Delta's is on Maven only: Spark gets
the files and the schema that the Delta log says, read here as the protocol has it.
"""

import json
import pickle
import sys
from pathlib import Path
from urllib.parse import unquote

import snowpark_connect_deps_iceberg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

RUNTIME = "iceberg-spark-runtime-3.5_2.12-1.9.2.jar"


def session() -> SparkSession:
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    settings = {
        "spark.jars": str(snowpark_connect_deps_iceberg.get_jar_path(RUNTIME)),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def iceberg(spark: SparkSession, location: str, version: int) -> DataFrame:
    path = Path(location)
    catalog = "c" + str(abs(hash(path.parent.parent)))
    spark.conf.set(f"spark.sql.catalog.{catalog}", "org.apache.iceberg.spark.SparkCatalog")
    spark.conf.set(f"spark.sql.catalog.{catalog}.type", "hadoop")
    spark.conf.set(f"spark.sql.catalog.{catalog}.warehouse", str(path.parent.parent))
    return spark.sql(f"SELECT * FROM {catalog}.{path.parent.name}.{path.name} VERSION AS OF {version}")


def delta(spark: SparkSession, location: str, version: int) -> DataFrame:
    files, schema = set(), ""
    for number in range(version + 1):
        for line in (Path(location) / "_delta_log" / f"{number:020}.json").read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files.add(action["add"]["path"])
            if "remove" in action:
                files.discard(action["remove"]["path"])
            if "metaData" in action:
                schema = action["metaData"]["schemaString"]
    paths = [f"{location}/{unquote(file)}" for file in sorted(files)]
    return spark.read.schema(StructType.fromJson(json.loads(schema))).parquet(*paths)


def main(out: str, wanted: list[str]) -> None:
    spark = session()
    found = []
    for one in wanted:
        kind, _, rest = one.partition(":")
        location, _, version = rest.rpartition("@")
        frame = (iceberg if kind == "iceberg" else delta)(spark, location, int(version))
        found.append([row.asDict(recursive=True) for row in frame.collect()])
    Path(out).write_bytes(pickle.dumps(found))
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
