"""Which run a request means: the finished one of the same inputs, or the next attempt.

A run id is a digest: the same spec, code, data and parameters name the same run, so asking twice trains once.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Records
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.errors import SpecInvalid, UsageError
from zebra_assets.training.provenance import code_revision


def check_python(spec: ModelSpec, folder: Path) -> None:
    """Raise `SpecInvalid` when the model asks for another Python than this one."""
    here = ".".join(platform.python_version_tuple()[:2])
    if spec.env.python_version not in (None, here):
        raise SpecInvalid(
            f"{folder / 'model.yaml'}: env.python_version is {spec.env.python_version}, this is Python {here}.",
            fix=f"python_version: '{here}', or run mlops with Python {spec.env.python_version}",
        )


def plan(
    spec: ModelSpec,
    folder: Path,
    manifests: Mapping[str, Manifest],
    key: str,
    records: Records,
    params: Mapping[str, Any],
    again: bool,
) -> tuple[Run, Run | None]:
    """The run to make and, unless it is wanted again, the finished run of the same inputs.

    Attempts count from 1; the first that has not finished is the one to make, so that a killed repetition is resumed.
    """
    every = check_params({**spec.hyperparams.params, **params})
    code = code_revision(folder, spec.entrypoint)
    attempt, finished = 1, None
    while (known := records.run(run_id(spec, code, manifests, every, attempt))) is not None and known.state == "finished":
        attempt, finished = attempt + 1, known
    wanted = Run(
        id=run_id(spec, code, manifests, every, attempt),
        model=spec.name,
        manifest_id=key,
        roles={role: manifest.id for role, manifest in manifests.items()},
        spec_digest=spec.digest,
        code=code,
        params=every,
        attempt=attempt,
        created_at=now(),
    )
    return wanted, None if again else finished


def check_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``params`` as a plain dict if they can be written as JSON, else raise `UsageError`."""
    try:
        plain: dict[str, Any] = json.loads(rfc8785.dumps(dict(params)))
    except (rfc8785.CanonicalizationError, TypeError, ValueError) as error:
        raise UsageError(f"Parameters must be plain JSON values: {error}.", fix="--params '{\"C\": 0.5}'") from error
    return {name: params[name] for name in plain}


def run_id(spec: ModelSpec, code: CodeRevision, manifests: Mapping[str, Manifest], params: Mapping[str, Any], attempt: int) -> str:
    """``<model>-<16 hex>``, a digest of everything that decides the outcome."""
    roles = {role: manifest.id for role, manifest in manifests.items()}
    inputs = {"spec": spec.digest, "code": code.digest, "roles": roles, "params": dict(params), "attempt": attempt}
    return f"{spec.name}-{digest_of(inputs)[:16]}"
