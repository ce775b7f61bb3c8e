"""The steps of the loop, each composed once: what the assets in `defs` and the verbs in `control` both do.

A step decides nothing itself, imports no dagster and prints nothing. `keys` finds the data, `ingesting` and `steps` do,
`window` finds what rests of the newest predictions, `predictions` remembers answers, `outcomes` judges routes by labels,
`provenance` looks again at what rests, `pages` draws. A room is imported when somebody asks for what it holds: an ingest, whose
source waits to be read, needs none of the contracts of models, runs and routes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zebra_assets.loop.ingesting import ingest_dataset
    from zebra_assets.loop.keys import held_out, newest_key, resolve
    from zebra_assets.loop.outcomes import judge_route
    from zebra_assets.loop.pages import report_picture
    from zebra_assets.loop.steps import Judged, judge, promote_run, train_candidate, watch
    from zebra_assets.loop.window import predictions_made

__all__ = [
    "Judged",
    "held_out",
    "ingest_dataset",
    "judge",
    "judge_route",
    "newest_key",
    "predictions_made",
    "promote_run",
    "report_picture",
    "resolve",
    "train_candidate",
    "watch",
]
_ROOMS = {
    "ingesting": ("ingest_dataset",),
    "keys": ("held_out", "newest_key", "resolve"),
    "outcomes": ("judge_route",),
    "pages": ("report_picture",),
    "steps": ("Judged", "judge", "promote_run", "train_candidate", "watch"),
    "window": ("predictions_made",),
}


def __getattr__(name: str) -> Any:
    for room, held in _ROOMS.items():
        if name in held:
            return getattr(import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
