"""An ingest of files does without pandas, and who imports it later finds pyarrow as it always was. In processes of their own."""

import subprocess
import sys
from typing import Any

import pytest

from tests.datasets.conftest import COLUMNS, Bench, csv_bytes, jsonl_bytes, people, recipe

INGEST = """
import sys
from pathlib import Path
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.ingest import ingest
{before}
folder = Path(sys.argv[1])
store = open_store((folder / "objects").as_uri(), cache=folder / "cache")
spec = DatasetSpec.model_validate_json(sys.argv[2])
done = ingest(spec, project=folder, store=store, manifests=ManifestFolder(folder / "manifests", store))
assert done.created
{after}
"""
AS_EVER = """
import pkgutil
import pyarrow as pa
import pandas as pd
assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1
assert pa.array(pd.Categorical(["a", "b"])).type == pa.dictionary(pa.int8(), pa.Table.from_pandas(pd.DataFrame({"a": ["b"]})).schema.field("a").type)
assert pa.scalar(pd.NaT, from_pandas=True).as_py() is None
assert pa.Table.from_pandas(pd.DataFrame({"t": pd.to_datetime(["2026-01-01"], utc=True)})).to_pandas().shape == (1, 1)
assert pkgutil.get_data("pandas", "io/formats/templates/html.tpl")
"""


def ingest(bench: Bench, *, name: str = "people.csv", rows: int = 300, before: str = "", after: str) -> None:
    bench.put(name, csv_bytes(people(rows)) if name.endswith(".csv") else jsonl_bytes(people(rows)))
    code = INGEST.format(before=before, after=after)
    checks: dict[str, Any] = {
        "visits": {"min": 0, "max": 10**6},
        "amount": {"min": 0, "max": 1e6},
        "left": {"values": ["yes", "no"], "min_length": 2},
    }
    columns = {name: {**column, **checks.get(name, {})} for name, column in COLUMNS.items()}
    spec = recipe(columns=columns, rules=["visits >= 0"]).model_dump_json(by_alias=True)
    done = subprocess.run([sys.executable, "-c", code, str(bench.folder), spec], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "rows"), [("people.csv", 300), ("people.jsonl", 300), ("people.csv", 70_000)])
def test_an_ingest_of_files_imports_no_pandas(bench: Bench, name: str, rows: int) -> None:
    """By one block and by two, whose columns are put together."""
    ingest(bench, name=name, rows=rows, after="assert not {'pandas', 'pyarrow.pandas_compat', 'pyarrow.dataset'} & set(sys.modules)")


def test_pandas_that_is_imported_after_an_ingest_converts_as_ever(bench: Bench) -> None:
    ingest(bench, after=AS_EVER)


def test_pandas_that_was_imported_before_an_ingest_converts_as_ever(bench: Bench) -> None:
    ingest(bench, before="import pandas", after=AS_EVER)


def test_two_threads_that_import_pandas_while_it_is_put_off_both_find_it() -> None:
    code = """
import threading
from zebra_assets.datasets.no_pandas import put_off_pandas
found = []
def look():
    import pandas
    found.append(pandas.DataFrame)
threads = [threading.Thread(target=look) for _ in range(2)] + [threading.Thread(target=put_off_pandas) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
import pyarrow, pandas
assert len(found) == 2 and pyarrow.array(pandas.Series([1.0, float("nan")])).null_count == 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
