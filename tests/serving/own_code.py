"""Folders of models that bring code of their own: what an akin-to-sklearn shelf version becomes when its answers are its code's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.serving.conftest import MODEL
from zebra_assets.adapters.approvals import SqlApprovals
from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.adapters.model_files import model_digest
from zebra_assets.contracts.code_approval import APPROVED, REVOKED, CodeApproval, subject_of

HONEST = """
import pandas as pd

class Model:
    def predict(self, rows, params=None):
        young = rows["tenure"] < 20
        return pd.DataFrame({"prediction": young.map({True: "Yes", False: "No"}), "score": young * 0.8 + 0.1})

def _load_pyfunc(path):
    return Model()
"""


def own_code(code: str = HONEST, change: Callable[[dict[str, Any]], object] = lambda document: None) -> Callable[[Path], None]:
    """Turns a copy of a good model folder into one whose answers come from ``code``."""

    def make(folder: Path) -> None:
        (folder / "model.skops").unlink()
        (folder / "code").mkdir()
        (folder / "code" / "own_model.py").write_text(code)
        document = yaml.safe_load((folder / "MLmodel").read_text())
        document["flavors"] = {"python_function": {"loader_module": "own_model", "code": "code"}}
        change(document)
        (folder / "MLmodel").write_text(yaml.safe_dump(document))

    return make


class Authors:
    """A registry whose versions from 100 on are made of version 1 by ``makes``; the others are the shelf's."""

    def __init__(self, shelf: Any, *makes: Callable[[Path], None]) -> None:
        self._shelf = shelf
        self._makes = {str(100 + n): make for n, make in enumerate(makes)}

    def download(self, model: str, version: str, into: Path) -> Path:
        into.mkdir(parents=True, exist_ok=True)
        folder = shutil.copytree(self._shelf.folders["1" if version in self._makes else version], into / "model")
        if version in self._makes:
            self._makes[version](folder)
        return folder

    def alias(self, model: str, alias: str) -> str | None:
        return None

    def digest(self, version: str, scratch: Path) -> str:
        return model_digest(self.download(MODEL, version, scratch / f"{version}-{len(list(scratch.glob('*')))}"))


def approve(url: str, version: str, digest: str, *, granted: bool = True) -> CodeApproval:
    """An approver's word, as `mlops code` writes it."""
    facts = {"model_digest": digest, "run_id": "run", "reason": "read"}
    SqlAudit(url).append("ann", APPROVED if granted else REVOKED, subject_of(MODEL, version), facts)
    word = SqlApprovals(url).newest(MODEL, version)
    assert word is not None
    return word


def signature(names: list[str]) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["signature"].update(inputs=json.dumps([{"type": "long", "name": name, "required": True} for name in names]))
