"""The newest predictions of a version as what rests of them: sketches where these cover the window, events otherwise.

Servers keep sketches of every prediction and events of a sample (`serving.sample_rate`, `events_per_second`), so sketches
say more, and go on saying it where no event is stored at all. Events say it where sketches are missing or not written yet.
"""

from datetime import timedelta

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.sketch import WindowSketch
from zebra_assets.parts import Parts

# Servers write their sketches every 10 s and their events every half second.
LATE = timedelta(seconds=30)


def covering_sketches(parts: Parts, spec: ModelSpec, version: str) -> list[WindowSketch]:
    """Sketches of the newest whole hours that hold `drift.window_rows` predictions, or of all there are; oldest first.

    Empty where they do not cover the window: they hold fewer predictions than there are events, or the newest event is later
    than what they have seen.
    """
    wanted = spec.drift.window_rows
    windows = parts.sketches.newest(spec.name, version, rows=wanted)
    if not windows or sum(w.rows for w in windows) < min(parts.events.count(spec.name, version=version), wanted):
        return []
    last = parts.events.predictions(spec.name, version=version, limit=1)
    seen = max(w.window_end for w in windows)
    return [] if last and last[0].ts > seen + LATE else windows


def predictions_made(parts: Parts, model: str, version: str) -> int:
    """How many predictions of a version are known of, by sketches or by events; it only grows."""
    return max(parts.sketches.made(model, version), parts.events.count(model, version=version))
