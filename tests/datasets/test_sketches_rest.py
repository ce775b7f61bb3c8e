"""The summaries rest beside the manifest as sketches, so that later ones can be merged with them without the rows."""

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.contracts.digest import sha256
from zebra_assets.datasets.summary import Summary


def test_a_manifest_names_its_sketches_and_they_say_what_its_summaries_say(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    stats = bench.ingest().manifest.stats
    assert stats.sketches is not None
    raw = bench.store.get(stats.sketches.key)
    assert (sha256(raw), len(raw)) == (stats.sketches.digest, stats.sketches.bytes)
    assert Summary.from_bytes(raw).columns() == stats.columns


def test_sketches_of_two_manifests_merge_to_the_summary_of_both(bench: Bench) -> None:
    summaries, rows = [], 0
    for count in (200, 300):
        bench.put("a.csv", csv_bytes(people(count)))
        manifest = bench.ingest().manifest
        assert manifest.stats.sketches is not None
        summaries.append(Summary.from_bytes(bench.store.get(manifest.stats.sketches.key)))
        rows += manifest.stats.rows_by_split["train"]
    both = Summary(recipe())
    for one in summaries:
        both.merge(one)
    assert both.columns()["amount"].rows == rows
