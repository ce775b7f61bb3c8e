"""The asset check of a dataset's manifest beside the one before."""

import dagster as dg
import pyarrow as pa

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from tests.datasets.conftest import bench as bench  # the fixture
from zebra_assets.defs.datasets import distributed_as_before


def test_a_manifest_unlike_the_one_before_shows_as_a_warning_and_the_first_one_passes(bench: Bench) -> None:
    rows = people(400)
    bench.put("rows.csv", csv_bytes(rows))
    first = bench.ingest().manifest
    bench.put("rows.csv", csv_bytes(rows.set_column(2, "visits", pa.array([9000 + i for i in range(400)]))))
    second = bench.ingest().manifest

    passed, told = (distributed_as_before(m, bench.manifests, recipe()) for m in (first, second))
    assert passed.passed and passed.metadata["before"].value == "none, this is the first"
    assert (told.passed, told.severity, told.metadata["before"].value) == (False, dg.AssetCheckSeverity.WARN, first.id)
    assert "| visits | same distribution |" in told.metadata["broken"].value
    assert told.metadata["broken"].value.count("\n") == 2  # the header, and one column of eight
