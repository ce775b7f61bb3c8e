"""Which files of a model's folder are its code, and what identifies them.

A run's `CodeRevision` names this digest, and a `module` model carries the very files along, so that whoever is about to run them
can tell whether they are the ones that were trained. Called by `training` and the server.
"""

import json
from pathlib import Path

from zebra_assets.contracts.digest import digest_of, file_digest

_CACHES = {"__pycache__", ".ipynb_checkpoints"}


def code_files(folder: Path) -> list[Path]:
    """The files that can change what a training does: all but model.yaml (the spec digest covers it) and caches."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and path != folder / "model.yaml"
        and not _CACHES.intersection(path.relative_to(folder).parts)
    )


def code_digest(folder: Path) -> str:
    """Digest (64 hex) of `code_files`.

    Of a notebook only the cells' sources count, so that looking at it in Jupyter does not make it another program.
    """
    return digest_of([[path.relative_to(folder).as_posix(), _file(path)] for path in code_files(folder)])


def _file(path: Path) -> str:
    if path.suffix == ".ipynb":
        try:
            cells = json.loads(path.read_bytes())["cells"]
            return digest_of([[cell["cell_type"], "".join(cell["source"])] for cell in cells])
        except (ValueError, KeyError, TypeError):
            pass  # not a notebook after all; papermill will say so
    return file_digest(path)
