"""The SparkSession that models run in: what is needed for it, its settings, its end."""

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lakehouse.errors import SetupError

# What Spark's answers depend on.
_MEANING = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "false",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.binaryAsString": "false",
    "spark.sql.parquet.mergeSchema": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.legacy.sizeOfNull": "false",
}
# What a machine of one's own needs; all of it can be set in spark-defaults.conf.
_LOCAL = {
    "spark.driver.memory": "1g",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.shuffle.partitions": "8",
}
_LOGGING = """
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n
"""


def check_setup() -> None:
    """Raise SetupError if PySpark or Java is missing."""
    try:
        import pyspark  # noqa: F401
    except ImportError:
        raise SetupError("PySpark is not installed", hint="Install it: uv add 'lakehouse[spark]'") from None
    home = os.environ.get("JAVA_HOME")
    java = Path(home) / "bin" / "java" if home else shutil.which("java")
    if not java or not Path(java).exists():
        place = f"there is no {java}" if java else "there is no `java` on the PATH"
        raise SetupError(
            f"Spark needs Java 17 or newer: {place}",
            hint="Install it: apt-get install openjdk-17-jre-headless",
        )


class SparkSessions:
    """Starts a session, and stops what it started.

    Args:
        folder: For Spark's own files: its log, its warehouse.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._session: Any = None
        self._ours = False

    def get(self) -> Any:
        """The session; started at the first call. Raises SetupError if that fails."""
        if self._session is None:
            check_setup()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._session = self._start()
        return self._session

    def _start(self) -> Any:
        from pyspark import SparkContext
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PySpark's about the versions of pandas, which is not used
            # Not getActiveSession, which knows that of its own thread alone.
            if SparkContext._active_spark_context is not None:  # noqa: SLF001  somebody's own, as in a notebook
                session = SparkSession.builder.getOrCreate().newSession()
            else:
                log = self._folder / "spark.log"
                try:
                    with _errors_to(log):
                        session = self._builder(SparkSession).getOrCreate()
                except (PySparkException, OSError, RuntimeError) as error:
                    said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
                    raise SetupError(
                        f"Spark did not start: {' '.join([str(error), *said])}", hint=f"See {log}"
                    ) from None
                self._ours = True
        for name, value in _MEANING.items():
            session.conf.set(name, value)
        return session

    def _builder(self, session: Any) -> Any:
        logging = self._folder / "log4j2.properties"
        logging.write_text(_LOGGING)
        configured = _configured()
        builder = session.builder.appName("lakehouse").config(
            "spark.sql.warehouse.dir", str(self._folder / "warehouse")
        )
        if "spark.driver.extraJavaOptions" not in configured:
            builder = builder.config(
                "spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={logging.as_uri()}"
            )
        if "spark.master" not in configured:
            builder = builder.master(os.environ.get("SPARK_MASTER") or "local[*]")
        for name, value in _LOCAL.items():
            if name not in configured:
                builder = builder.config(name, value)
        return builder

    def close(self) -> None:
        """Stop Spark and its Java process, if they were started here."""
        session, self._session = self._session, None
        if session is None or not self._ours:
            return
        from pyspark import SparkContext

        session.stop()
        gateway = SparkContext._gateway  # noqa: SLF001  (PySpark keeps its Java until Python ends)
        if gateway is not None:
            process = getattr(gateway, "proc", None)
            gateway.shutdown()
            SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001
            if process is not None:
                process.stdin.close()  # its sign to end
                process.wait()


def _configured() -> set[str]:
    """The settings that the machine's spark-defaults.conf makes."""
    home = os.environ.get("SPARK_HOME")
    folder = os.environ.get("SPARK_CONF_DIR") or (f"{home}/conf" if home else "")
    file = Path(folder) / "spark-defaults.conf"
    if not folder or not file.is_file():
        return set()
    lines = (line.strip() for line in file.read_text().splitlines())
    return {line.replace("=", " ").split()[0] for line in lines if line and not line.startswith("#")}


@contextlib.contextmanager
def _errors_to(file: Path) -> Iterator[None]:
    """Let processes that begin meanwhile write what they have to say to a file: Java's banners among it."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with file.open("ab") as target:
            os.dup2(target.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
