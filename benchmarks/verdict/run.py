"""Does `mlops route verdict` say what is true, how soon, and how often is it wrong?

    python benchmarks/verdict/run.py [--replays 200] [--rows 20000]

Real customers, real versions (`replay`): the better version as candidate, the worse one as candidate, and a version against
itself, each replayed 200 times under lots of 50:50 and 90:10, the verdict asked for after every label. Beside it a t-test
asked as often, as a dashboard with a p-value invites. Writes benchmarks/results/verdict.{json,md,png}; exits 1 when a claim fails.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.verdict.replay import Array, lives, qualities  # noqa: E402
from zebra_assets.evaluation.verdict import Outcomes, decided  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
ALPHA, SEED = 0.05, 2026


def replayed(champion: Array, candidate: Array, *, share: float, rows: int, replays: int) -> dict[str, Any]:
    """What the verdicts of many replays were, and after how many labels."""
    outcomes = lives(champion, candidate, share=share, rows=rows, replays=replays, seed=SEED)
    began = time.perf_counter()
    promote, keep = decided(outcomes, ALPHA)
    seconds = time.perf_counter() - began
    at = np.minimum(promote, keep)
    done = at[at <= rows]
    return {
        "difference": float(candidate.mean() - champion.mean()),
        "promote": int(((promote < keep) & (promote <= rows)).sum()),
        "keep": int(((keep < promote) & (keep <= rows)).sum()),
        "undecided": int((at > rows).sum()),
        "labels_median": float(np.median(at)) if len(done) > replays / 2 else None,
        "labels_p90": float(np.quantile(at, 0.9)) if len(done) > 0.9 * replays else None,
        "peeking_t_test_says_different": peeked(outcomes),
        "seconds": round(seconds, 2),
        "decided_at": sorted(int(n) for n in done),
    }


def peeked(outcomes: Outcomes) -> int:
    """How many replays a two-sample z-test at 5 % calls different at least once, asked after every label from the 100th on."""
    x, a = outcomes.value, outcomes.candidate

    def arm(mask: Array) -> tuple[Array, Array, Array]:
        count = np.maximum(np.cumsum(mask, axis=1), 1)
        mean = np.cumsum(x * mask, axis=1) / count
        return count, mean, np.cumsum(np.square(x) * mask, axis=1) / count - np.square(mean)

    (n0, m0, v0), (n1, m1, v1) = arm(~a), arm(a)
    z = np.abs(m1 - m0) / np.sqrt(v0 / n0 + v1 / n1 + 1e-12)
    return int((z[:, 99:] > 1.96).any(axis=1).sum())


def measure(rows: int, replays: int) -> list[dict[str, Any]]:
    """Every metric, share and pair."""
    found = []
    for metric, (old, new) in qualities().items():
        pairs = {"better": (old, new), "worse": (new, old), "the same": (old, old)}
        for share in (0.5, 0.1):
            for candidate, (champion, other) in pairs.items():
                result = replayed(champion, other, share=share, rows=rows, replays=replays)
                found.append({"metric": metric, "share": share, "candidate": candidate, **result})
                print({k: v for k, v in found[-1].items() if k != "decided_at"}, flush=True)
    return found


def claims(found: list[dict[str, Any]], replays: int) -> list[dict[str, Any]]:
    """What should hold: no more wrong verdicts than stated, and nearly all right where there is something to find."""
    rows = []
    for one in found:
        name = f"{one['metric']}, {one['share']:.0%} to a candidate that is {one['candidate']}"
        wrong = {"better": one["keep"], "worse": one["promote"], "the same": one["promote"] + one["keep"]}[one["candidate"]]
        rows.append({"claim": f"{name}: wrong verdicts", "value": wrong / replays, "bound": ALPHA, "holds": wrong <= ALPHA * replays})
        if one["candidate"] != "the same":
            right = one["promote" if one["candidate"] == "better" else "keep"] / replays
            rows.append({"claim": f"{name}: right verdicts", "value": right, "bound": 0.9, "holds": right >= 0.9})
    return rows


def page(found: list[dict[str, Any]], checked: list[dict[str, Any]], rows: int, replays: int) -> str:
    """The table for people."""
    lines = [
        "# Is the verdict right?", "",
        f"{replays} replays a line, up to {rows:,} labels each; the verdict is asked for after every label, alpha = {ALPHA:.0%}.",
        "Rows: held-out customers of the shipped example, drawn with replacement. `python benchmarks/verdict/run.py`", "",
        "| metric | lot | candidate is | true difference | promote | keep | undecided | labels, median | labels, p90 | "
        "t-test asked as often says 'different' |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in found:
        lot = f"{1 - one['share']:.0%} : {one['share']:.0%}"
        counts = " | ".join(str(one[k]) for k in ("promote", "keep", "undecided"))
        when = " | ".join("-" if one[k] is None else f"{one[k]:,.0f}" for k in ("labels_median", "labels_p90"))
        said = f"{one['peeking_t_test_says_different']} of {replays}"
        lines.append(f"| {one['metric']} | {lot} | {one['candidate']} | {one['difference']:+.4f} | {counts} | {when} | {said} |")
    lines += ["", "![labels until the verdict](verdict.png)", "", "| claim | value | bound | holds |", "|---|---|---|---|"]
    lines += [f"| {c['claim']} | {c['value']:.3f} | {c['bound']} | {'yes' if c['holds'] else 'NO'} |" for c in checked]
    return "\n".join(lines) + "\n"


def plot(found: list[dict[str, Any]], rows: int, replays: int, path: Path) -> None:
    """Share of replays with a verdict, by labels."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    colours = {"better": "#1b7837", "worse": "#b2182b", "the same": "#777777"}
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    for axis, share in zip(axes, (0.5, 0.1), strict=True):
        for one in (o for o in found if o["share"] == share):
            at = [*one["decided_at"], rows]
            style = {"color": colours[one["candidate"]], "linestyle": "-" if one["metric"] == "brier" else "--"}
            label = f"candidate is {one['candidate']} ({one['metric']})"
            axis.step(at, [*(np.arange(len(at) - 1) + 1) / replays, len(one["decided_at"]) / replays], where="post", label=label, **style)
        axis.axhline(ALPHA, color="black", linewidth=0.6, linestyle=":")
        axis.set(xscale="log", xlim=(100, rows), ylim=(0, 1.02), xlabel="labels", title=f"{share:.0%} to the candidate")
    axes[0].set_ylabel(f"share of {replays} replays with a verdict")
    axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--rows", type=int, default=20_000)
    given = parser.parse_args()
    found = measure(given.rows, given.replays)
    checked = claims(found, given.replays)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "verdict.md").write_text(page(found, checked, given.rows, given.replays))
    plot(found, given.rows, given.replays, RESULTS / "verdict.png")
    (RESULTS / "verdict.json").write_text(json.dumps(checked, indent=1) + "\n")
    print(f"{sum(c['holds'] for c in checked)} of {len(checked)} claims hold; median of medians "
          f"{np.median([o['labels_median'] or math.nan for o in found if o['candidate'] != 'the same']):,.0f} labels")  # fmt: skip
    return 0 if all(c["holds"] for c in checked) else 1


if __name__ == "__main__":
    sys.exit(main())
