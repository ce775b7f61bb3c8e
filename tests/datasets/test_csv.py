"""CSV is parsed straight into the recipe's dtypes, or as text where that fails: both must read the same."""

import csv
import io
import itertools
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connectors import _csv
from zebra_assets.datasets.dtypes import to_dtype
from zebra_assets.errors import DataInvalid

CELLS: dict[Dtype, list[str]] = {
    "int64": ["7", " 7", "7 ", "-0", "05", "+5", "0x1F", "9223372036854775807", "9223372036854775808", "1e3", "1.0", "", '""', "7 7"],
    "float64": ["1.5", " 1.5", ".5", "5.", "1e400", "nan", "-inf", "Infinity", "0x10", "1_0", "", '""', "1e-400", "-0.0"],
    "bool": ["true", "TRUE", "tRuE", "1", "0", "yes", " true", "F", "", '""'],
    "date": ["2026-01-31", " 2026-01-31", "2026-1-31", "20260131", "2026-02-30", "0001-01-01", "10000-01-01", "", '""', "2026-01-31T00:00"],
    "timestamp": [
        "2026-01-31T10:00:00Z",
        "2026-01-31 10:00:00",
        "2026-01-31",
        "2026-01-31T10:00:00+02:00",
        "2026-01-31T10:00:00.123456",
        "2026-01-31T10:00:00.1234567Z",
        "2026-01-31T10:00",
        "2026-01-31Z",
        " 2026-01-31",
        "",
        '""',
    ],
}
dtypes = st.sampled_from(list(CELLS))


def outcome(read: list[pa.RecordBatch], dtype: Dtype) -> str:
    return str([to_dtype(batch.column(0), dtype).to_pylist() for batch in read if batch.num_rows])


def both(file: Path, dtype: Dtype) -> tuple[str, str]:
    said = []
    kinds = {"a": _csv.ARROW[dtype]} | _csv._clocks(file, {"a": dtype}, ",")
    for columns in (kinds, {"a": pa.string()}):
        try:
            said.append(outcome(list(_csv._parse(file, columns, "a.csv", ",")), dtype))
        except pa.ArrowInvalid:
            said.append("refused")
    return said[0], said[1]


@given(
    dtypes.flatmap(
        lambda d: st.tuples(
            st.just(d), st.lists(st.sampled_from(CELLS[d]) | st.text("0123456789-+.eE:TZ x", max_size=12), min_size=1, max_size=4)
        )
    )
)
@example(("int64", ["0x1F", " 7"]))
@settings(max_examples=400, deadline=None)
def test_what_parses_straight_reads_the_same_as_text(tmp_path_factory: pytest.TempPathFactory, case: tuple[Dtype, list[str]]) -> None:
    dtype, cells = case
    file = tmp_path_factory.getbasetemp() / "cells.csv"
    file.write_text("a,b\n" + "".join(f"{cell},x\n" for cell in cells))
    straight, text = both(file, dtype)
    assert straight in ("refused", text)


def test_a_wrong_cell_far_into_a_file_is_told_by_its_row_and_loses_no_row_before_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_csv, "BLOCK_BYTES", 4096)
    records = list(csv.reader(io.StringIO(csv_bytes(people(3000)).decode(), newline="")))
    at = records[0].index("member")

    def put(cell: str | None) -> None:
        out = io.StringIO(newline="")
        changed = [*records[2500][:at], cell, *records[2500][at + 1 :]] if cell else records[2500]
        csv.writer(out).writerows([*records[:2500], changed, *records[2501:]])
        bench.put("a.csv", out.getvalue().encode())

    put(None)
    clean = bench.ingest().manifest.id
    put({"true": "tRuE", "false": "fAlSe"}[records[2500][at].lower()])  # Arrow's CSV reader refuses these, its casts do not
    assert bench.ingest().manifest.id == clean
    put("perhaps")
    with pytest.raises(DataInvalid, match="1 of 3,000 rows are not: row 2,500 'perhaps'"):
        bench.ingest()


def test_lines_may_end_as_any_system_ends_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_csv, "HEAD_BYTES", 4099)
    rows = csv_bytes(people(3000))
    ids = set()
    for ending in (b"\r\n", b"\n", b"\r"):
        bench.put("a.csv", rows.replace(b"\r\n", ending))
        ids.add(bench.ingest().manifest.id)
    assert len(ids) == 1


def test_a_record_longer_than_a_block_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_csv, "BLOCK_BYTES", 4096)
    table = people(50)
    long = pa.array(["x" * 20_000, *table["name"].to_pylist()[1:]])
    table = table.set_column(table.schema.get_field_index("name"), "name", long)
    bench.put("a.csv", csv_bytes(table))
    assert bench.rows(bench.ingest())["name"][0].as_py() == "x" * 20_000


@given(st.text('a",\n\r', min_size=1, max_size=60))
@example('a,"b\n""\n""",""\nc""d,"""\n"\n')
@settings(max_examples=400, deadline=None)
def test_a_record_is_too_long_exactly_where_a_reader_of_the_whole_text_finds_it_so(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "records.csv"
    file.write_text(text, newline="")
    lines = list(io.StringIO(text, newline=""))
    reader, ends = csv.reader(lines), [0]
    ends += [reader.line_num for _ in reader]
    longest = max(sum(map(len, lines[a:b])) for a, b in itertools.pairwise([*ends, len(lines)]))
    with pytest.MonkeyPatch.context() as patch:
        for limit in (longest, longest - 1):
            patch.setattr(_csv, "LONGEST", limit)
            if limit == longest:
                _csv._refuse_longer(file, "records.csv", ",")
            else:
                with pytest.raises(DataInvalid, match=f"longer than {limit} bytes"):
                    _csv._refuse_longer(file, "records.csv", ",")


def test_a_first_line_without_end_is_refused_before_it_is_read(bench: Bench) -> None:
    bench.put("a.csv", b"a" * (3 << 20))
    with pytest.raises(DataInvalid, match="header line is longer"):
        bench.ingest(recipe())
