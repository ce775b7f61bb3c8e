"""The steps of the loop, each composed once: what the assets in `defs` and the verbs in `control` both do.

A step decides nothing itself, imports no dagster and prints nothing. `keys` finds the data, `steps` does,
`window` finds what rests of the newest predictions, `predictions` remembers answers, `outcomes` judges routes by labels,
`provenance` looks again at what rests, `pages` draws.
"""

from zebra_assets.loop.keys import held_out, newest_key, resolve
from zebra_assets.loop.outcomes import judge_route
from zebra_assets.loop.pages import report_picture
from zebra_assets.loop.predictions import predictions
from zebra_assets.loop.steps import Judged, ingest_dataset, judge, promote_run, train_candidate, watch
from zebra_assets.loop.window import predictions_made

__all__ = [
    "Judged",
    "held_out",
    "ingest_dataset",
    "judge",
    "judge_route",
    "newest_key",
    "predictions",
    "predictions_made",
    "promote_run",
    "report_picture",
    "resolve",
    "train_candidate",
    "watch",
]
