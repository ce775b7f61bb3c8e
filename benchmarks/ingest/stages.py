"""Where the time of one `mlops ingest` goes: seconds by stage, then by function.    python -m benchmarks.ingest.stages IN.csv

Stages are the ones that the verb reports as progress; where it works in a stream they take turns, and each is given the time
until the next report. Functions are those of the main thread, as cProfile sees them, which makes the whole slower.
"""

import cProfile
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.ingest.contestants import ROOT
from benchmarks.ingest.zebra import DATASET, Place


def main(source: str) -> None:
    from zebra_assets.control import operations
    from zebra_assets.parts import Parts
    from zebra_assets.settings import load_settings

    with tempfile.TemporaryDirectory(dir=ROOT / ".zebraops") as folder:
        place = Place(Path(folder))
        place.show(Path(source))
        parts = Parts(load_settings(place.project))
        spent: defaultdict[str, float] = defaultdict(float)
        at: tuple[str, float] = ("before the first report", time.perf_counter())

        def tick(stage: str, rows: int | None = None) -> None:
            nonlocal at
            now = time.perf_counter()
            spent[at[0]] += now - at[1]
            at = stage, now

        with cProfile.Profile() as profile:
            operations.ingest(parts, DATASET, tick)
        tick("end")
    for stage, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"{seconds:8.2f} s  {stage}")
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main(sys.argv[1])
