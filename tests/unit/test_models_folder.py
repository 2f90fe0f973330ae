"""The folder `models/`: what is found in it, and what a file says as a whole."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.errors import UserError
from lakehouse.models import folder
from lakehouse.models.folder import ModelFile, model_files, parse_model, parse_test
from lakehouse.models.model import Model, Reference

TABLES = ("shop.products", "shop.stores", "models.gone")
DAILY = """-- kind: table
-- key: [sku, day]
-- grain: one product on one day
-- description: What every product cost at the end of every day.
-- columns:
--   price: in euro, with VAT
-- tests:
--   - not_null: [sku, day]
--   - relationships: {column: sku, to: SHOP.products.sku, severity: warn}
select sku, cast(valid_from as date) as day, arg_max(price, valid_from) as price
from shop.products_history
group by all;
"""
CHEAPEST = '''"""
key: [sku]
inputs:
  products: shop.products
  daily: Daily_history
"""

import polars as pl


def cheapest(products: pl.DataFrame, *, daily: pl.DataFrame) -> pl.DataFrame:
    return products
'''


def project(root: Path, files: dict[str, str | bytes]) -> Path:
    """A folder with these files."""
    for path, content in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def file(content: str | bytes, path: str = "models/x.sql") -> ModelFile:
    """A file that lies nowhere."""
    data = content if isinstance(content, bytes) else content.encode()
    return ModelFile(name=Path(path).stem, path=path, content=data, digest=hashlib.sha256(data).hexdigest())


def parsed(content: str | bytes, path: str = "models/x.sql") -> Model:
    """What a file says."""
    return parse_model(file(content, path), models=["x", "daily", "other"], tables=lambda: TABLES)


def refused(content: str | bytes, path: str = "models/x.sql") -> str:
    """What the error says."""
    with pytest.raises(UserError) as caught:
        parsed(content, path)
    assert caught.value.hint
    return str(caught.value)


# -- which files


def test_models_are_found_in_folders_and_nothing_else_is_one(tmp_path: Path) -> None:
    root = project(tmp_path, {
        "models/b.sql": "select 1", "models/a/c.py": "x", "models/a/deep/D.SQL": "select 2",
        "models/tests/t.sql": "x", "models/a/tests/e.sql": "x", "models/README.md": "x", "models/_no.sql": "x",
        "models/.no.sql": "x", "models/_folder/f.sql": "x", "models/__pycache__/g.py": "x", "other/h.sql": "x",
    })  # fmt: skip
    assert [(f.path, f.name) for f in model_files(root)] == [
        ("models/a/c.py", "c"), ("models/a/deep/D.SQL", "D"), ("models/a/tests/e.sql", "e"), ("models/b.sql", "b"),
    ]  # fmt: skip
    assert [(f.path, f.name) for f in folder.test_files(root)] == [("models/tests/t.sql", "t")]
    found = model_files(root)[-1]
    assert found.content == b"select 1"
    assert found.digest == hashlib.sha256(b"select 1").hexdigest()


def test_a_project_without_models_has_none(tmp_path: Path) -> None:
    assert model_files(tmp_path) == []
    assert folder.test_files(tmp_path) == []


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["models/a/x.sql", "models/b/x.sql"], "models/a/x.sql and models/b/x.sql: two models with the same name"),
        (["models/x.py", "models/x.sql"], "models/x.py and models/x.sql: two models with the same name"),
        (["models/X.sql", "models/a/x.sql"], "names that differ only in case"),
        (["models/2x.sql"], "models/2x.sql: '2x' cannot be the name of a table"),
        (["models/a b.sql"], "models/a b.sql: 'a b' cannot"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_are_refused(tmp_path: Path, paths: list[str], said: str) -> None:
    root = project(tmp_path, dict.fromkeys(paths, "select 1"))
    with pytest.raises(UserError) as caught:
        model_files(root)
    assert said in str(caught.value)


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom lakehouse.models.folder import model_files, test_files\n"
        "model_files(Path('.')), test_files(Path('.'))\n"
        "print(sorted({'sqlglot', 'yaml', 'duckdb', 'polars', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


# -- SQL


def test_a_file_is_read_whole() -> None:
    got = parsed(DAILY, "models/shop/daily.sql")
    assert (got.name, got.path, got.kind, got.language, got.line) == (
        "daily",
        "models/shop/daily.sql",
        "table",
        "sql",
        10,
    )
    assert got.sql == DAILY.split("severity: warn}\n")[1].strip().rstrip(";")
    assert (got.key, got.grain) == (("sku", "day"), "one product on one day")
    assert got.description == "What every product cost at the end of every day."
    assert got.columns == {"price": "in euro, with VAT"}
    assert [(t.kind, t.severity, t.line) for t in got.tests] == [
        ("not_null", "error", 8),
        ("relationships", "warn", 9),
    ]
    assert got.tests[1].arguments["to"] == "shop.products.sku"
    assert {reference.name for reference in got.references} == {"shop.products"}
    (read,) = got.references
    assert (read.form, got.sql[read.start : read.end]) == ("history", "shop.products_history")
    assert got.digest == hashlib.sha256(DAILY.encode()).hexdigest()


def test_a_file_without_a_header_is_a_view() -> None:
    assert parsed("from other") == Model(
        name="x", path="models/x.sql", sql="from other", digest=hashlib.sha256(b"from other").hexdigest(),
        references=(Reference(source="models", table="other", start=5, end=10),),
    )  # fmt: skip


def test_a_byte_order_mark_and_other_line_ends_do_no_harm() -> None:
    got = parsed(b"\xef\xbb\xbf-- key: a\r\n\r\nselect 1\r\nfrom zzz".replace(b"zzz", b"other"))
    assert (got.key, got.line, [r.name for r in got.references]) == (("a",), 3, ["models.other"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "models/x.sql: is empty"),
        (" \n\t\n", "models/x.sql: is empty"),
        ("-- kind: view\n", "models/x.sql:2: there is no SELECT"),
        (b"select 1,\n'\xff'", "models/x.sql:2: is not UTF-8 (byte 11 is 0xff)"),
        ("-- kind: view\n\nfrom nope", "models/x.sql:3:6: there is no table nope"),
        ("-- kind: view\nfrom x", "models/x.sql:2:6: x is the model itself"),
        ("-- kind: view\n-- inputs: {a: shop.products}\nfrom other", "models/x.sql:2: the header has no `inputs`"),
        ("-- tests:\n--   - relationships: {column: a, to: shop.product.sku}\nselect 1", "models/x.sql:2: there is no table shop.product"),
        ("-- tests: [relationships: {column: a, to: shop.products}]\nselect 1", "`to` is shop.products, without a column"),
        ("-- tests: [relationships: {column: a, to: nope.sku}]\nselect 1", "there is no table nope"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(content: str | bytes, said: str) -> None:
    assert said in refused(content)


@pytest.mark.parametrize(
    ("written", "to"),
    [("Shop.Products.sku", "shop.products.sku"), ("daily.sku", "models.daily.sku"), ("models.DAILY.sku", "models.daily.sku"), ("x.parent", "models.x.parent"), ("shop.products.a.b", "shop.products.a.b"), ("daily.a.b", "models.daily.a.b")],
)  # fmt: skip
def test_the_other_side_of_a_relationship_is_a_table_of_the_lake(written: str, to: str) -> None:
    (test,) = parsed(f"-- tests: [relationships: {{column: a, to: {written}}}]\nselect 1").tests
    assert test.arguments["to"] == to


# -- Python


def test_a_python_model_is_read_without_running_it() -> None:
    text = CHEAPEST.replace("import polars as pl", "raise SystemExit")
    got = parsed(text, "models/cheapest.py")
    assert (got.kind, got.language, got.key, got.sql, got.line) == ("table", "python", ("sku",), text, 1)
    assert got.parameters == ("products", "daily")
    assert [(r.name, r.form) for r in got.references] == [("shop.products", ""), ("models.daily", "history")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def x(:", "models/x.py:1: is no Python"),
        ("\n\ndef xx(): ...", "models/x.py:1: there is no function `x`\n  Did you mean `xx`?"),
        ("y = 1", "there is no function `x`"),
        ('"""kind: view"""\ndef x(): ...', "models/x.py:1: `kind` is 'view'"),
        ('"""\nkind: incremental\n"""\ndef x(): ...', "models/x.py:2: `kind` is 'incremental'"),
        ("\ndef x(p): ...", "models/x.py:2: `inputs` does not say what the parameter `p` is"),
        ('"""inputs: {p: shop.products, q: other}"""\ndef x(p): ...', "`inputs` names `q`"),
        ('"""inputs: {p: shop.product}"""\ndef x(p): ...', "models/x.py:1: there is no table shop.product"),
        ('"""\nkey: a\ninputs: {p: x}\n"""\ndef x(p): ...', "models/x.py:3: x is the model itself"),
        ('"""inputs: {p: shop.products}"""\nasync def x(p): ...', "is async"),
        ('"""inputs: {p: shop.products}"""\ndef x(*p): ...', "takes *"),
        ('"""\nkey: a\nkye: b\n"""\ndef x(): ...', "models/x.py:3: the header has no `kye`"),
        (b"'\xff'", "models/x.py:1: is not UTF-8"),
        ("\0", "models/x.py:1: is no Python"),
    ],
)  # fmt: skip
def test_what_a_python_model_cannot_be(content: str | bytes, said: str) -> None:
    assert said in refused(content, "models/x.py")


def test_prose_in_a_docstring_is_the_description() -> None:
    got = parsed('"""What is cheap.\n\nAnd what is not.\n"""\ndef x(): ...', "models/x.py")
    assert (got.description, got.references) == ("What is cheap.\n\nAnd what is not.", ())


# -- tests in files of their own


def test_a_test_in_a_file_says_what_it_reads() -> None:
    one = file(
        "-- description: no free lunch\n-- severity: warn\nfrom daily join shop.products using (sku);\n",
        "models/tests/free.sql",
    )
    test, read = parse_test(one, models=["daily"], tables=lambda: TABLES)
    assert (test.kind, test.severity, test.line) == ("sql", "warn", 3)
    assert test.arguments == {
        "name": "free", "path": "models/tests/free.sql", "description": "no free lunch",
        "sql": "from daily join shop.products using (sku)",
    }  # fmt: skip
    assert [r.name for r in read] == ["models.daily", "shop.products"]


def test_a_test_that_reads_no_model_would_never_run() -> None:
    with pytest.raises(UserError, match=r"models/tests/t\.sql:1: reads no model"):
        parse_test(file("from shop.products", "models/tests/t.sql"), models=["daily"], tables=lambda: TABLES)
