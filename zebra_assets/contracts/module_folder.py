"""The folder of a `module` model: its MLmodel, the code that was trained, and what `train` left. Never runs any of it.

    MLmodel              MLflow's own format, with one loader, ours
    code/                the files of models/<name>, as they were trained
    artifacts/           what train() wrote into folder_path, read by initialization()
    requirements.txt …   as beside every model

It brings code, so reading it is no permission to run it: whoever does has to know where these bytes came from. Written by
`training/module`, checked by `training/collect` and again before an evaluation runs it.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zebra_assets.contracts.model_code import code_digest, code_files
from zebra_assets.contracts.model_folder import FILES, MODEL_FILE, NOT_COUNTED, check_kinds
from zebra_assets.contracts.names import Digest, Filename
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.yaml_source import load
from zebra_assets.errors import NotFound, Refused, SpecInvalid

CODE, ARTIFACTS = "code", "artifacts"
LOADER = "zebra_assets.adapters.module_loader"
FLAVOUR = "python_function"
SAYS = {"loader_module": LOADER, "code": CODE, "data": ARTIFACTS}


class ModuleCode(Noun):
    """The code in such a folder: its digest, as in the run's `CodeRevision`, and the file that holds the three functions."""

    entrypoint: Filename
    code_digest: Digest


def is_module_folder(folder: Path) -> bool:
    """Whether a folder claims to be a `module` model's; `read_module_folder` checks the claim."""
    if folder.is_symlink() or (folder / "MLmodel").is_symlink() or not (folder / "MLmodel").is_file():
        return False
    try:
        document, _ = load(folder / "MLmodel")
        return bool(document["flavors"][FLAVOUR]["loader_module"] == LOADER)
    except (NotFound, SpecInvalid, KeyError, TypeError):
        return False


def read_module_folder(folder: Path) -> ModuleCode:
    """Check that a folder is what training a `module` model leaves, and say what its code is.

    Raises:
        Refused: a link or a pipe, a file that does not belong there, an MLmodel that says anything else than this platform writes, or
            other code than it says.
    """
    check_kinds(folder)
    _check_layout(folder)
    said = _said(folder)
    if said.code_digest != (real := code_digest(folder / CODE)):
        raise _refused(folder, f"its code has digest {real[:16]}, not {said.code_digest[:16]} as it says")
    if not (folder / CODE / said.entrypoint).is_file():
        raise _refused(folder, f"{CODE}/{said.entrypoint} is not there")
    return said


def _check_layout(folder: Path) -> None:
    # What `code_files` leaves out Python would still import: a compiled file without its source, a stale cache.
    code = set(code_files(folder / CODE))
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        place = path.relative_to(folder)
        if place.parts[0] == CODE:
            known = path in code and path.name != NOT_COUNTED
        elif place.parts[0] == ARTIFACTS:
            known = path.name != NOT_COUNTED
        else:
            known = len(place.parts) == 1 and path.name in FILES and path.name != MODEL_FILE
        if not known:
            raise _refused(folder, f"{place.as_posix()} does not belong there")


def _said(folder: Path) -> ModuleCode:
    try:
        document, _ = load(folder / "MLmodel")
        flavours: Any = document["flavors"]
        flavour: Any = flavours[FLAVOUR]
        wrong = sorted(set(flavours) - {FLAVOUR}) or [
            f"{key}: {flavour.get(key)!r}" for key, value in SAYS.items() if flavour.get(key) != value
        ]
        said = ModuleCode(entrypoint=flavour["entrypoint"], code_digest=flavour["code_digest"])
    except (NotFound, SpecInvalid, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise _refused(folder, f"its MLmodel does not say what the platform writes: {error}") from error
    if wrong:
        raise _refused(folder, f"its MLmodel says {wrong[0]}, which the platform does not write")
    return said


def _refused(folder: Path, why: str) -> Refused:
    return Refused(f"Model folder {folder.name} was refused: {why}.", fix="mlops train the model again, which writes the folder anew")
