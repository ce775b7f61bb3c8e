"""An ingest that is killed before its n-th change of the disk. Apart from the tests, so that a child imports nothing else."""

import os
import signal
import sys
from pathlib import Path

from tests.datasets.test_kill import FORK as FORK  # one fork server serves both
from tests.datasets.test_kill import TOUCHING
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.datasets.ingest import ingest
from zebra_assets.errors import DataInvalid


def ingest_until(folder: Path, spec: DatasetSpec, at: int) -> None:
    """Ingest in this process, which is a child; rows that break the recipe are refused as ever."""
    left = at

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        changes = event in TOUCHING or (event == "open" and int(str(arguments[2] or 0)) & (os.O_WRONLY | os.O_RDWR))
        if changes and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    store = open_store((folder / "objects").as_uri(), cache=folder / "cache")
    try:
        ingest(spec, project=folder, store=store, manifests=ManifestFolder(folder / "manifests", store))
    except DataInvalid:
        return
