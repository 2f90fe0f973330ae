"""What a project says of its mirrors, and that no secret is ever shown."""

import traceback
from pathlib import Path

import pytest

from lakehouse.errors import NotFoundError, SetupError, UserError
from lakehouse.project import Project, find_project
from sync import settings
from sync.settings import Mirror, redacted

WORD = "s3cret/w%rd"
URL = "postgresql://ann:s3cret%2Fw%25rd@db.example.org:5433/lake?sslmode=require"


def project(folder: Path, text: str) -> Project:
    (folder / "pyproject.toml").write_text(f"[tool.lakehouse]\n{text}\n", encoding="utf-8")
    return find_project(folder)


def mirror(folder: Path, text: str) -> Mirror:
    return settings.named(project(folder, f"[tool.lakehouse.mirrors.m]\n{text}"), "m")


def refused(folder: Path, text: str, *words: str) -> UserError:
    with pytest.raises(UserError) as raised:
        mirror(folder, text)
    for word in words:
        assert word in str(raised.value)
    return raised.value


def test_the_scheme_says_which_kind_a_mirror_is(tmp_path: Path) -> None:
    kinds = {
        "gs://b/lake": "bucket",
        "s3://b/lake": "bucket",
        "abfs://container@account.dfs.core.windows.net/lake": "bucket",
        "file:///mnt/nas/lake": "bucket",
        "postgresql://db/lake": "postgres",
        "postgres://db/lake": "postgres",
    }
    for url, kind in kinds.items():
        found = mirror(tmp_path, f'url = "{url}"')
        assert (found.kind, found.url, found.shown) == (kind, url, url)
        assert found.connections == (16 if kind == "bucket" else 4)


def test_a_url_may_be_the_name_of_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", URL)
    found = mirror(tmp_path, 'url = "WAREHOUSE_URL"')
    assert (found.url, found.kind) == (URL, "postgres")
    assert found.shown == "postgresql://ann:***@db.example.org:5433/lake?sslmode=require"
    for text in (repr(found), str(found), found.scrubbed(f"{URL} {WORD}")):
        assert "s3cret" not in text


def test_what_is_neither_bucket_nor_postgres_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", f"mysql://ann:{WORD}@db/lake")
    text = 'url = "WAREHOUSE_URL"\ngrant_to = ["analysts"]'
    error = refused(tmp_path, text, "mysql://, which is not supported", "postgresql://")
    assert "s3cret" not in str(error)


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    refused(tmp_path, 'url = "WAREHOUSE_URL"', "mirrors.m]", "WAREHOUSE_URL", "not set")
    refused(
        tmp_path,
        'url = "s3://b/lake"\noptions = {secret = "$LAKE_SECRET_NOT_SET"}',
        "options.secret",
        "LAKE_SECRET_NOT_SET",
    )
    monkeypatch.setenv("WAREHOUSE_URL", f"no url but {WORD}")
    assert "s3cret" not in str(refused(tmp_path, 'url = "WAREHOUSE_URL"', "holds no URL"))


def test_one_wrong_mirror_does_not_hide_the_others(tmp_path: Path) -> None:
    here = project(
        tmp_path,
        '[tool.lakehouse.mirrors.good]\nurl = "gs://b/lake"\n[tool.lakehouse.mirrors.bad]\nurl = "LAKE_NOT_SET"',
    )
    assert settings.names(here) == ["good", "bad"]
    assert settings.named(here, "good").url == "gs://b/lake"
    with pytest.raises(UserError, match="LAKE_NOT_SET"):
        settings.mirrors(here)
    with pytest.raises(NotFoundError, match="no mirror 'other'"):
        settings.named(here, "other")


def test_options_are_passed_on_and_read_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIO_SECRET", WORD)
    monkeypatch.setenv("MINIO_URL", "https://minio.example.org")
    found = mirror(
        tmp_path,
        'url = "s3://b/lake"\nconnections = 4\nbandwidth = "2MB"\n[tool.lakehouse.mirrors.m.options]\n'
        'secret = "${MINIO_SECRET}"\nanon = false\nclient_kwargs = {endpoint_url = "$MINIO_URL", region_name = "x"}',
    )
    assert found.options == {
        "secret": WORD,
        "anon": False,
        "client_kwargs": {"endpoint_url": "https://minio.example.org", "region_name": "x"},
    }
    assert (found.connections, found.bandwidth) == (4, 2_000_000)
    said = found.scrubbed(f"{WORD} was refused by https://minio.example.org")
    assert said == "*** was refused by https://minio.example.org"


@pytest.mark.parametrize(
    "text",
    [
        'url = "postgresql://ann:hunter22@db/lake"',
        'url = "postgresql://db/lake?password=hunter22"',
        'url = "postgresql://db/lake?user=a&sslpassword=hunter22"',
        'url = "az://c/lake?sv=1&sig=hunter22"',
        'url = "s3://b/l"\noptions = {secret = "hunter22"}',
        'url = "s3://b/l"\noptions = {key = "hunter22"}',
        'url = "s3://b/l"\noptions = {client_kwargs = {aws_secret_access_key = "hunter22"}}',
        'url = "gs://b/l"\noptions = {token = "hunter22"}',
        'url = "gs://b/l"\noptions = {token = {private_key = "hunter22", type = "service_account"}}',
        'url = "az://b/l"\noptions = {connection_string = "AccountKey=hunter22"}',
        'url = "az://b/l"\noptions = {account_key = "hunter22"}',
        'url = "s3://b/l"\noptions = {proxy = "http://u:hunter22@proxy"}',
        'url = "gs://b/l"\noptions = {session_kwargs = {headers = {Authorization = "Bearer hunter22"}}}',
    ],
)
def test_a_secret_in_a_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, text, "environment variable")
    assert "hunter22" not in str(error)


@pytest.mark.parametrize(
    "options",
    [
        'token = "anon"',
        'token = "google_default"',
        'token = "~/keys/sync.json"',
        "anon = true",
        'project = "p"',
    ],
)
def test_options_that_only_say_where_secrets_are_are_fine(tmp_path: Path, options: str) -> None:
    assert mirror(tmp_path, f'url = "gs://b/l"\noptions = {{{options}}}').options


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("connections = 4", ("no url",)),
        ('url = "./backup"', ("neither a URL", "file:///backup")),
        ('url = "gs://b/l"\nbandwidth = "fast"', ("'fast' is no size", "2MB")),
        ('url = "gs://b/l"\nbandwidth = 0', ("is no size",)),
        ('url = "gs://b/l"\nconnections = 0', ("connections is 0",)),
        ('url = "gs://b/l"\nregion = "x"', ("unknown setting 'region'", "bandwidth")),
        ('url = "gs://b/l"\noptions = 3', ("options is no table",)),
        ('url = "gs://b/l"\ngrant_to = ["a"]', ("grant_to is no setting of mirrors in buckets",)),
        ('url = "postgresql://db"\noptions = {sslmode = "x"}', ("options is no setting", "in its URL")),
        ('url = "postgresql://db"\nbandwidth = "2MB"', ("bandwidth is no setting of mirrors in Postgres",)),
        ('url = "postgresql://db"\ngrant_to = "a"', ("grant_to is no list",)),
        ('url = "file://backup"', ("three slashes",)),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    refused(tmp_path, text, *words)


@pytest.mark.parametrize("name", ["status", "pull", "Bucket", "../x", "a b", "-x"])
def test_names_that_cannot_be_typed_or_kept_are_refused(tmp_path: Path, name: str) -> None:
    here = project(tmp_path, f'[tool.lakehouse.mirrors."{name}"]\nurl = "gs://b/lake"')
    with pytest.raises(UserError, match=r"cannot be named|is no name"):
        settings.named(here, name)


def test_mirrors_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a table of mirrors"):
        project(tmp_path, 'mirrors = "gs://b/lake"')
    with pytest.raises(UserError, match="not a table of mirrors"):
        project(tmp_path, 'mirrors = {bucket = "gs://b/lake"}')


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("gs://b/lake", "gs://b/lake"),
        ("./lake", "./lake"),
        ("postgresql://ann@db/lake", "postgresql://ann@db/lake"),
        ("postgresql://ann:pw@db/lake", "postgresql://ann:***@db/lake"),
        ("postgresql://:pw@db", "postgresql://:***@db"),
        ("postgresql:///lake?host=/tmp&password=pw", "postgresql:///lake?host=/tmp&password=***"),
        ("postgresql://u:p?w@db", "postgresql://***"),
        ("postgresql://u:p/w@db/lake", "postgresql://***"),
        ("postgresql://u:p@w@db/lake", "postgresql://***"),
        ("postgresql://u:p#w@db/lake", "postgresql://***"),
        ("az://c/l?sv=2&sig=pw", "az://c/l?sv=2&sig=***"),
    ],
)
def test_what_is_shown_of_a_url_has_no_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("password", ["a/b@c", "a@b", "a?b", "a#b"])
def test_a_password_that_would_be_cut_apart_is_refused_before_anyone_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", f"postgresql://ann:{password}@db.example.org/lake")
    error = refused(tmp_path, 'url = "WAREHOUSE_URL"', "Percent-encode")
    assert password not in str(error)


def test_a_bucket_named_on_the_command_line_with_a_secret_is_refused() -> None:
    with pytest.raises(UserError, match="holds a secret") as raised:
        settings.at("s3://key:hunter22@b/lake")
    assert "hunter22" not in str(raised.value)


def test_a_place_is_a_mirror_of_the_project_a_url_or_a_path(tmp_path: Path) -> None:
    here = project(tmp_path, '[tool.lakehouse.mirrors.bucket]\nurl = "gs://b/lake"')
    assert settings.at("bucket", here).url == "gs://b/lake"
    assert settings.at("gs://c/lake", here).url == "gs://c/lake"
    assert settings.at("/mnt/lake").open().url == "/mnt/lake"


def test_errors_of_libraries_are_cleaned_with_all_that_is_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = settings.at(URL)

    def fail() -> None:
        try:
            raise ValueError(f"could not reach {URL}")
        except ValueError as error:
            raise SetupError(f"no answer from {URL}", hint=f"password {WORD}") from error

    with pytest.raises(SetupError) as raised, found.guarded():
        fail()
    told = "".join(traceback.format_exception(raised.value))
    assert "could not reach postgresql://ann:***@db.example.org" in told
    assert "s3cret" not in told
    assert raised.value.hint == "password ***"


class StubbornError(Exception):
    """An error whose text is not in its arguments."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def __str__(self) -> str:
        return f"no answer from {self.url}"


def test_an_error_that_cannot_be_cleaned_is_told_anew() -> None:
    found = settings.at(URL)
    with (
        pytest.raises(SetupError, match="StubbornError: no answer from postgresql://ann:") as raised,
        found.guarded(),
    ):
        raise StubbornError(URL)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))

    def fail() -> None:
        try:
            raise StubbornError(URL)
        except StubbornError as error:
            raise RuntimeError("failed") from error

    with pytest.raises(RuntimeError) as other, found.guarded():
        fail()
    assert "s3cret" not in "".join(traceback.format_exception(other.value))


def test_another_prefix_lies_beside_the_first() -> None:
    assert settings.at("gs://b/lakes/mine/").beside("laptop2").url == "gs://b/lakes/laptop2"
    assert settings.at("file:///mnt/lake").beside("laptop2").url == "file:///mnt/laptop2"
    for place in ("gs://b", "postgresql://db/lake"):
        with pytest.raises(UserError, match="has no prefix"):
            settings.at(place).beside("laptop2")
    for name in ("../up", "status", ""):
        with pytest.raises(UserError):
            settings.at("gs://b/lake").beside(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2MB", 2_000_000), ("500 kB", 500_000), ("1.5GiB", 1_610_612_736), ("10", 10), ("1m", 1_000_000)],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert settings.size_bytes(text, "--bandwidth") == expected
