"""Nothing reports home: what the libraries are told, each in its own variable.

Whoever starts a process gives it `OFF`; whoever imports such a library in a process of somebody else's calls `off` before.
Makefile and infra/docker/ say the same.
"""

import os

OFF = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "true",  # Evidently, MLflow
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # ONNX Runtime since 1.29: an id of the machine and a database in ~/.cache/Microsoft, a thread and 2.3 MB with its import; then, of
    # each session, the model's file name, its graph's name and hashes, in memory until its makers' collector takes them.
    "ORT_DISABLE_TELEMETRY": "1",
}


def off() -> None:
    """Tell this process and its children. Comes too late for a library that is imported already."""
    os.environ.update(OFF)
