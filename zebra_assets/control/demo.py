"""The whole loop, on real data, in a project of its own: `<project>/.zebraops/demo/`.

Every step is the real thing: the same ingest, the same assets, a Dagster instance with its sensors, a server under load.
Only the telling is the demo's. Cut short on the way to the first version it resumes, later it starts anew. The story: a
telephone company trains on customers before its fibre launch, serves, launches fibre; the predictions drift, the drift
sensor asks for fresh rows, and the next version takes over while requests keep coming.
"""

import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from zebra_assets.control.demo_walk import DATASET, MODEL, Demo, Say, Told
from zebra_assets.errors import NotFound

SECOND_ACT = "second-act"  # a file: requests and drift have begun, which cannot be walked twice on one ledger


def workspace(project: Path) -> Path:
    """The demo's own project: kept while the first version is on its way to prod, made anew once the second act has begun.

    Raises:
        NotFound: the project does not ship the example.
    """
    source = project / "models" / MODEL
    if not (source / "model.yaml").exists():
        raise NotFound(f"The example models/{MODEL} is not in {project}.", fix="run `mlops demo` in a clone of the ZebraOps repository")
    folder = project / ".zebraops" / "demo"
    if (folder / SECOND_ACT).exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part in (f"models/{MODEL}", "dagster_home"):
        ignore = shutil.ignore_patterns("__pycache__", ".*", "history", "schedules", "storage", "logs")
        shutil.copytree(project / part, folder / part, dirs_exist_ok=True, ignore=ignore)
    recipe = folder / "manifests" / DATASET
    recipe.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(project / "manifests" / DATASET / "dataset.yaml", recipe / "dataset.yaml")
    shutil.copyfile(project / "workspace.yaml", folder / "workspace.yaml")
    return folder


def run_demo(project: Path, say: Say, until: Literal["promoted", "end"] = "end") -> Told:
    """Walk the loop.

    Args:
        project: the project that ships the example.
        say: called with one line per thing that happened.
        until: ``promoted`` stops after the first version is in prod (ingest, train, evaluate, decide, promote).

    Raises:
        ZebraError: a step failed; the message names its log.
    """
    started = time.monotonic()
    folder = workspace(project)
    demo = Demo(folder, say)
    with ExitStack() as stack:
        try:
            demo.first_version(stack, dagster=until == "end")
            if until == "end":
                (folder / SECOND_ACT).touch()
                demo.serve_and_drift(stack)
        finally:
            demo.told.seconds = time.monotonic() - started
    return demo.told
