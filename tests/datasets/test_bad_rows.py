"""Bad input: each a clear error that names the fix, and nothing changed on disk."""

import gzip
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, jsonl_bytes, people, recipe
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, ZebraError


def refused(bench: Bench, kind: type[ZebraError], **changes: Any) -> str:
    """The error of an ingest that must fail and leave no trace."""
    before = bench.files()
    with pytest.raises(kind) as caught:
        bench.ingest(recipe(**changes))
    assert bench.files() == before
    assert caught.value.fix
    return caught.value.message


def replaced(bench: Bench, row: int, column: str, cell: str) -> None:
    """CSV of people() with one cell (row from 1) replaced by text."""
    lines = [line.split(",") for line in csv_bytes(people().drop_columns("name")).decode().splitlines()]
    lines[row][lines[0].index(column)] = cell
    bench.put("a.csv", "\n".join(map(",".join, lines)).encode())


NAMELESS = {name: c for name, c in COLUMNS.items() if name != "name"}


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("visits", "many"),
        ("visits", "2.5"),
        ("visits", "99999999999999999999"),
        ("visits", "7 7"),
        ("amount", "1,5".replace(",", ";")),
        ("amount", "NA"),
        ("member", "perhaps"),
        ("born", "31.01.2026"),
        ("born", "2026-02-30"),
        ("seen", "yesterday"),
        ("seen", "2026-01-01 25:00:00"),
    ],
)
def test_a_cell_of_another_dtype_is_named_with_its_row(bench: Bench, column: str, cell: str) -> None:
    replaced(bench, 42, column, cell)
    said = refused(bench, DataInvalid, columns=NAMELESS)
    assert f"column '{column}' is declared {COLUMNS[column]['dtype']}, but 1 of 200 rows are not: row 42 '{cell}'" in said


def test_every_wrong_column_is_told_at_once_with_count_and_five_examples(bench: Bench) -> None:
    rows = people().to_pylist()
    for i, row in enumerate(rows):
        row["visits"] = f"n{i}"
        row["born"] = "someday" if i > 190 else None
    bench.put("a.csv", csv_bytes(pa.Table.from_pylist([{k: str(v) if v is not None else None for k, v in r.items()} for r in rows])))
    said = refused(bench, DataInvalid)
    assert "'visits' is declared int64, but 200 of 200 rows are not: row 1 'n0', row 2 'n1', row 3 'n2', row 4 'n3', row 5 'n4'" in said
    assert "'born' is declared date, but 9 of 200 rows are not: row 192 'someday'" in said


def test_wrong_cells_are_counted_exactly_and_quickly(bench: Bench) -> None:
    """Cell by cell, these 120,000 would take 12 s."""
    rows, wanted = 60_000, {name: COLUMNS[name] for name in ("id", "visits", "born")}
    lines = [f"p{i:05d},{'v' if i else ''}{i},{'soon' if i % 2 else '2026-01-01'}" for i in range(rows)]
    lines[1] = "p00001,99999999999999999999,2026-02-30"
    bench.put("a.csv", "\n".join(["id,visits,born", *lines]).encode())
    began = time.process_time()
    said = refused(bench, DataInvalid, columns=wanted, label=None)
    assert "'visits' is declared int64, but 59,999 of 60,000 rows are not: row 2 '99999999999999999999', row 3 'v2'" in said
    assert "'born' is declared date, but 30,000 of 60,000 rows are not: row 2 '2026-02-30', row 4 'soon'" in said
    assert time.process_time() - began < 5


def test_a_count_that_was_cut_short_says_so(bench: Bench) -> None:
    """Wrong in a way that no pattern sees: 20 digits each, all different."""
    lines = [f"p{i:05d},9{i:019d}" if i else "p00000,1" for i in range(2000)]
    bench.put("a.csv", "\n".join(["id,visits", *lines]).encode())
    said = refused(bench, DataInvalid, columns={name: COLUMNS[name] for name in ("id", "visits")}, label=None)
    assert "'visits' is declared int64, but 1,999 of 2,000 rows are not" in said
    lines = [f"p{i:05d},99{i:017d}" if i else "p00000,1" for i in range(2000)]
    bench.put("a.csv", "\n".join(["id,visits", *lines]).encode())
    said = refused(bench, DataInvalid, columns={name: COLUMNS[name] for name in ("id", "visits")}, label=None)
    assert "'visits' is declared int64, but at least 200 of 2,000 rows are not: row 2 '9900000000000000001'" in said


def test_sensitive_cells_are_masked_in_messages(bench: Bench) -> None:
    replaced(bench, 42, "visits", "secret-7")
    said = refused(bench, DataInvalid, columns=NAMELESS, sensitive=["visits"])
    assert "row 42 ***" in said
    assert "secret" not in said
    replaced(bench, 42, "visits", "-7")
    said = refused(bench, DataInvalid, columns=NAMELESS | {"visits": {"dtype": "int64", "min": 0}}, sensitive=["visits"])
    assert "row 42 (***)" in said


@pytest.mark.parametrize(
    ("type_", "column", "said"),
    [
        (pa.string(), "member", "row 1 'a0'"),
        (pa.float64(), "id", "row 1 0.5"),
        (pa.int64(), "seen", "row 2 1"),
        (pa.bool_(), "visits", "row 1 False"),
    ],
)
def test_a_parquet_column_of_another_type_is_refused(bench: Bench, type_: pa.DataType, column: str, said: str) -> None:
    cells = {"string": "a{}", "double": 0.5, "int64": None, "bool": False}[str(type_)]
    values = [f"a{i}" if cells == "a{}" else (i or None) if cells is None else cells for i in range(200)]
    table = people().set_column(people().column_names.index(column), column, pa.array(values, type_))
    pq.write_table(table, bench.put("a.parquet", b""))
    message = refused(bench, DataInvalid)
    assert f"column '{column}' is declared" in message
    assert said in message


def test_numbers_that_would_lose_digits_are_refused(bench: Bench) -> None:
    for name, values in (("amount", [2**60 + 1] * 200), ("visits", [0.5] * 200)):
        table = people().set_column(people().column_names.index(name), name, pa.array(values))
        pq.write_table(table, bench.put("a.parquet", b""))
        assert f"column '{name}'" in refused(bench, DataInvalid)


def test_a_misspelled_column_is_guessed_and_an_extra_one_left_behind(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.put("a.csv", csv_bytes(people().rename_columns(["id", "amount", "visit", "name", "member", "born", "seen", "left"])))
    assert "data/a.csv has the columns" in (said := refused(bench, DataInvalid))
    assert "column 'visits' is missing. Did you mean 'visit'?" in said
    bench.put("a.csv", csv_bytes(people().append_column("shoe_size", pa.array([44] * 200))))
    caplog.set_level("INFO")
    assert "shoe_size" not in bench.rows(bench.ingest()).column_names
    assert "left behind: shoe_size" in caplog.text


def test_a_null_label_is_called_by_its_name(bench: Bench) -> None:
    replaced(bench, 42, "left", "")
    said = refused(bench, DataInvalid, columns=NAMELESS)
    assert "column 'left': label null: 1 rows: row 42 (None)" in said


def test_all_broken_rules_are_told_together(bench: Bench) -> None:
    rows = people().to_pylist()
    rows[1]["id"] = rows[0]["id"]
    rows[5]["visits"], rows[6]["visits"] = -1, 5000
    rows[7]["left"] = "maybe"
    bench.put("a.csv", csv_bytes(pa.Table.from_pylist(rows, schema=people().schema)))
    columns = COLUMNS | {
        "visits": {"dtype": "int64", "min": 0, "max": 1000},
        "left": {"dtype": "string", "values": ["yes", "no"]},
        "name": {"dtype": "string", "nullable": True, "unique": True},
    }
    said = refused(bench, DataInvalid, columns=columns, expectations={"min_rows": 1000, "max_null_fraction": 0.05})
    for line in (
        "breaks 9 of ",
        "table: min_rows: 200 rows, at least 1,000 are expected",
        "column 'id': key is unique: 1 rows: row 2 ('p00000')",
        "column 'visits': min 0: 1 rows: row 6 (-1)",
        "column 'visits': max 1000: 1 rows: row 7 (5000)",
        "column 'left': one of yes, no: 1 rows: row 8 ('maybe')",
        "column 'name': unique: 163 rows: row 10",
        "column 'name': null fraction: 14.5% are null, at most 5.0% is expected",
    ):
        assert line in said, said


def test_nan_counts_as_missing(bench: Bench) -> None:
    table = people().set_column(1, "amount", pa.array([float("nan")] + [1.0] * 199))
    pq.write_table(table, bench.put("a.parquet", b""))
    said = refused(bench, DataInvalid, columns=COLUMNS | {"amount": {"dtype": "float64"}})
    assert "column 'amount': not null: 1 rows: row 1 (nan)" in said
    assert bench.ingest().manifest.stats.null_fraction["amount"] == 1 / 200


def test_an_empty_source_is_no_dataset(bench: Bench) -> None:
    assert refused(bench, NotFound) == "No file matches data/*."
    bench.put("a.csv", b"")
    assert "data/a.csv is empty: 0 bytes" in refused(bench, DataInvalid)
    bench.put("a.csv", csv_bytes(people(0)))
    assert "has no rows" in refused(bench, DataInvalid)
    bench.empty()
    bench.put("a.jsonl", b"\n\n")
    assert refused(bench, DataInvalid)
    bench.empty()
    pq.write_table(people(0), bench.put("a.parquet", b""))
    assert "has no rows" in refused(bench, DataInvalid)


def test_the_fix_for_a_missing_source_is_its_script_where_there_is_one(bench: Bench) -> None:
    with pytest.raises(NotFound) as caught:
        bench.ingest()
    assert caught.value.fix == "put the data at data/*, or correct source.path"
    script = bench.folder / "models" / "people" / "source.py"
    script.parent.mkdir(parents=True)
    script.touch()
    with pytest.raises(NotFound) as caught:
        bench.ingest()
    assert caught.value.fix == f"cd {bench.folder} && {sys.executable} models/people/source.py"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.csv",
            csv_bytes(people(3)) + b"p9,1\r\np8,1,2\r\n",
            "2 lines do not have the header's number of cells:\n  2 cells instead of 8: p9,1",
        ),
        ("a.csv", csv_bytes(people(3)).replace(b"p00001", b"p\xff\xfe001"), "not UTF-8"),
        ("a.csv", b"\xff\xfe" + "id,name".encode("utf-16-le"), "not UTF-8"),
        ("a.csv", b"\n", "has no header line"),
        ("a.csv", csv_bytes(people(3)).replace(b"visits", b"amount"), "two columns named 'amount'"),
        ("a.csv.gz", gzip.compress(csv_bytes(people(3000)))[:-2000], "a.csv.gz cannot be read as csv"),
        ("a.csv.gz", b"no gzip at all", "a.csv.gz cannot be read as csv"),
        ("a.jsonl", jsonl_bytes(people(3)) + b'{"id": \n', "1 lines do not fit the recipe:\n  line 4: not JSON"),
        (
            "a.jsonl",
            jsonl_bytes(people(3)).replace(b'"visits": 3', b'"visits": "3"'),
            "line 2: column 'visits' is declared int64, but holds str",
        ),
        ("a.jsonl", jsonl_bytes(people(3)).replace(b'"visits"', b'"visit"'), "column 'visits' is missing. Did you mean 'visit'?"),
        ("a.jsonl.gz", gzip.compress(jsonl_bytes(people(3000)))[:-2000], "a.jsonl.gz cannot be read as jsonl"),
        ("a.parquet", b"PAR1 or not", "a.parquet cannot be read as parquet"),
        ("a.arrow", b"ARROW1 or not", "a.arrow cannot be read as arrow"),
    ],
)
def test_a_broken_file_is_named_and_never_half_read(bench: Bench, name: str, content: bytes, said: str) -> None:
    bench.put(name, content)
    assert said in refused(bench, DataInvalid)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
@pytest.mark.parametrize(
    ("begins", "is_what"),
    [
        # 0x0d in a zip archive's time of writing: a line end to whoever takes it for text.
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00\x0d\x0a", "a zip archive or a spreadsheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet"),
        (b"\x1f\x8b\x08\x00", "packed by gzip"),
        (b"\x28\xb5\x2f\xfd", "packed by zstd"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"ARROW1\x00\x00", "an Arrow file"),
        (b"SQLite format 3\x00", "an SQLite database"),
        (b"%PDF-1.7\n", "a PDF"),
    ],
)
def test_another_kind_of_file_under_the_name_of_a_text_is_called_what_it_is(bench: Bench, name: str, begins: bytes, is_what: str) -> None:
    content = begins + csv_bytes(people(3))
    bench.put(name, gzip.compress(content) if name.endswith(".gz") else content)
    assert f"{name} is {is_what}, not {'csv' if 'csv' in name else name[2:]}." in refused(bench, DataInvalid)


@pytest.mark.parametrize("column", ["PAR1", "ARROW1", "PK"])
def test_a_column_may_be_named_as_another_kind_of_file_begins(bench: Bench, column: str) -> None:
    bench.put("a.csv", f"{column},id\n".encode() + b"".join(b"x,p%d\n" % i for i in range(300)))
    columns = {column: {"dtype": "string"}, "id": {"dtype": "string"}}
    assert bench.ingest(recipe(columns=columns, label=None)).manifest.stats.rows == 300


def test_a_torn_parquet_file_is_refused(bench: Bench) -> None:
    path = bench.put("a.parquet", b"")
    pq.write_table(people(5000), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read as parquet" in refused(bench, DataInvalid)


def test_a_file_that_changes_while_it_is_read_is_no_snapshot(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    bench.put("b.csv", csv_bytes(people(300).slice(200)))
    read = bench.stages.append

    def meddle(stage: tuple[str, int | None]) -> None:
        if stage[0] == "read":
            bench.put("a.csv", csv_bytes(people(100)))
        read(stage)

    bench.stages = type("Meddling", (list,), {"append": lambda self, stage: meddle(stage)})()
    assert "data/a.csv changed while it was read" in refused(bench, DataInvalid)


def test_too_few_rows_for_a_split_are_told_before_training(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people(2)))
    assert "of 2 rows none falls into split" in refused(bench, DataInvalid)


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ({"connector": "files", "path": "../secret.csv"}, Refused, "contains '..'"),
        ({"connector": "files", "path": "data/../../x.csv"}, Refused, "contains '..'"),
        ({"connector": "files"}, SpecInvalid, "source.path is missing"),
        ({"connector": "files", "path": "data/*", "parameters": {"delimeter": ";"}}, SpecInvalid, "Did you mean 'delimiter'?"),
        ({"connector": "files", "path": "data/*", "parameters": {"delimiter": ";;"}}, SpecInvalid, "is not one character"),
        ({"connector": "files", "path": "data/*.xls"}, SpecInvalid, "the format of '.xls' is not known"),
        ({"connector": "filles", "path": "data/*"}, ZebraError, "Did you mean 'files'?"),
    ],
)
def test_a_wrong_source_option_is_refused(bench: Bench, source: dict[str, Any], kind: type[ZebraError], said: str) -> None:
    bench.put("a.xls", b"?")
    assert said in refused(bench, kind, source=source)


def test_a_symlink_out_of_the_project_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_bytes(csv_bytes(people()))
    (bench.folder / "data" / "a.csv").symlink_to(tmp_path / "secret.csv")
    assert "leads out of the project" in refused(bench, Refused)
    assert bench.ingest(recipe(source={"connector": "files", "path": str(tmp_path / "secret.csv")})).created
