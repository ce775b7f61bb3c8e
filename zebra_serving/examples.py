"""The input example that lies in a model folder, as a request body."""

import json
from pathlib import Path

EXAMPLE = "input_example.json"


def request_of(example: Path) -> bytes:
    """MLflow's input example (``{"columns": […], "data": [[…]]}``, or one record or a list of them) as a request body."""
    document = json.loads(example.read_bytes())
    if isinstance(document, dict) and {"columns", "data"} <= document.keys():
        document = [dict(zip(document["columns"], row, strict=True)) for row in document["data"]]
    elif isinstance(document, dict):
        document = [document]
    return json.dumps({"rows": document}, allow_nan=False).encode()
