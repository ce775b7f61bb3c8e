"""For schemathesis, in whose environment this runs: what fits, where the document has no words for it.

Arrow bodies are drawn from the files that ARROW_BODIES names, as "media type=path" joined by ";".
"""

import os
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

EXACT = 2**53  # beyond it a float's spelling as an integer is another number to other readers

for kind, _, path in (one.partition("=") for one in os.environ["ARROW_BODIES"].split(";")):
    schemathesis.openapi.media_type(kind, st.just(Path(path).read_bytes()))


def whole(value: Any) -> Any:
    """``value`` with every float that is an integer spelt as one: JSON Schema takes 938.0 for an integer, and the server does not."""
    if isinstance(value, dict):
        return {key: whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT else value


def even(body: Any) -> Any:
    """A body by column with lists of one length; a column that is left out as a whole stays null."""
    columns = body.get("columns") if isinstance(body, dict) else None
    if not isinstance(columns, dict):
        return body
    shortest = min((len(cells) for cells in columns.values() if isinstance(cells, list)), default=0)
    return {**body, "columns": {name: cells[:shortest] if isinstance(cells, list) else cells for name, cells in columns.items()}}


def explained(body: Any) -> bool:
    """Whether so many rows, in such a form, can be explained."""
    return (
        isinstance(body, dict)
        and len(body.get("rows", ())) <= 16
        and all(len(cells or ()) <= 16 for cells in body.get("columns", {}).values())
    )


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Called for every request before it is sent."""
    if case.headers is not None and case.headers.get("x-timeout-ms", "").isdigit():
        del case.headers["x-timeout-ms"]  # of a millisecond it would be missed, and answered with 503 as it should be
    if case.meta is not None and case.meta.generation.mode.is_positive and "explain" in (case.query or {}) and not explained(case.body):
        case.query = {}
    if case.meta is not None and case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        case.body = even(whole(case.body))
