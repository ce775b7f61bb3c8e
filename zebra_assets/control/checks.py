"""Everything that can be wrong with a project and its machine, looked at without changing it, each with a fix to paste.

Each check is a generator of findings; one that raises becomes a finding itself, so that one broken store hides nothing
else. Ports and processes are the CLI's (`cli/doctor`). The only write is one small probe object in the object store.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from zebra_assets.control import queries
from zebra_assets.errors import SpecInvalid, ZebraError, edit
from zebra_assets.parts import Parts
from zebra_assets.project import load_project
from zebra_assets.settings import Settings

LOW_DISK_GB, FULL_DISK_GB = 5.0, 0.5
# Below 0.5 GB SQLite's journal or one model's artifacts may not fit; below 5 GB a week of runs may not.
OPTIONAL = {"monitoring": ("evidently",), "explain": ("lightshap",)}


@dataclass(frozen=True)
class Check:
    """One finding. ``fail`` means a command will not work; ``warn`` that it may not; ``info`` is neither."""

    name: str
    state: Literal["ok", "warn", "fail", "info"]
    detail: str
    fix: str | None = None


def python() -> Iterator[Check]:
    """The interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check("python", "ok" if fits else "fail", found, None if fits else "create a virtual environment with Python 3.11, 3.12 or 3.13")


def packages() -> Iterator[Check]:
    """What pyproject.toml asks for, against what is installed; nothing is imported."""
    from packaging.requirements import Requirement

    wanted: dict[str, Requirement] = {}
    for line in metadata.requires("zebraops") or []:
        requirement = Requirement(line)
        extras = ("", "models", "serving", "assets")
        if requirement.name != "zebraops" and any(requirement.marker is None or requirement.marker.evaluate({"extra": e}) for e in extras):
            wanted[requirement.name] = requirement
    wrong = [text for name, requirement in wanted.items() if (text := _misfit(name, requirement))]
    if wrong:
        yield Check("packages", "fail", "; ".join(wrong), "pip install 'zebraops[assets,serving]'")
    else:
        yield Check(
            "packages", "ok", f"{len(wanted)} as required: dagster {metadata.version('dagster')}, mlflow {metadata.version('mlflow')}"
        )
    for extra, modules in OPTIONAL.items():
        absent = [m for m in modules if importlib.util.find_spec(m) is None]
        if absent:
            yield Check(f"extra {extra}", "info", f"{', '.join(absent)} not installed", f"pip install 'zebraops[{extra}]'")


def _misfit(name: str, requirement: "object") -> str | None:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    specifier = requirement.specifier  # type: ignore[attr-defined]
    return None if specifier.contains(version, prereleases=True) else f"{name} {version} does not fit {specifier}"


def layout(settings: Settings) -> Iterator[Check]:
    """The folders that make a project."""
    absent = [f"{d.name}/" for d in (settings.models_dir, settings.manifests_dir) if not d.is_dir()]
    if absent:
        yield Check(
            "project", "fail", f"{settings.project_dir} has no {' and no '.join(absent)}", "cd into a project, or: mlops init my-project"
        )
        return
    yield Check("project", "ok", str(settings.project_dir))
    yield Check("settings", "ok", f"profile {settings.profile}, environment {settings.environment}")
    if not (settings.project_dir / "workspace.yaml").exists():
        yield Check("workspace", "warn", "no workspace.yaml; `dagster dev` by hand will not find the assets", "mlops init")


def specs(settings: Settings) -> Iterator[Check]:
    """Every model.yaml and dataset.yaml."""
    try:
        project = load_project(settings.project_dir)
    except SpecInvalid as error:
        for line in error.message.splitlines():
            yield Check("specs", "fail", line, edit(Path(line.split(":")[0])))
        return
    if not project.models:
        yield Check("specs", "warn", "no models yet", "mlops init my-model")
    else:
        yield Check("specs", "ok", f"{len(project.models)} models, {len(project.datasets)} datasets")
    for name, spec in project.models.items():
        if not (settings.models_dir / name / spec.entrypoint).is_file():
            path = settings.models_dir / name / spec.entrypoint
            yield Check("specs", "fail", f"model '{name}': entrypoint {path} does not exist", f"write {path}, or correct `entrypoint`")


def state(parts: Parts) -> Iterator[Check]:
    """The state database answers and has our tables."""
    settings = parts.settings
    if settings.state_url is None and not (settings.home / "state.db").exists():
        yield Check("state database", "warn", "not created yet; the first command that needs it will", "mlops init")
        return
    count = len(parts.records.runs(limit=1000))
    yield Check("state database", "ok", f"{_place(settings.state)}, {count} runs")


def store(parts: Parts) -> Iterator[Check]:
    """The object store keeps the promises that manifests rest on; what would be lost is said where it does not."""
    from zebra_assets.adapters.store_probe import probe

    promises = list(probe(parts.store))
    kept = [promise.name for promise in promises if promise.kept]
    broken = [promise for promise in promises if not promise.kept]
    for promise in broken:
        yield Check(
            "object store",
            "fail" if promise.vital else "warn",
            f"{parts.store.url} does not keep '{promise.name}': {promise.lost}",
            "use AWS S3, SeaweedFS, a recent MinIO, gs://, abfs:// or file://",
        )
    if not any(promise.vital for promise in broken):
        yield Check("object store", "ok", f"{parts.store.url}, writable, keeps: {', '.join(kept)}")


def mlflow(parts: Parts) -> Iterator[Check]:
    """MLflow answers, and its aliases say what the ledger says."""
    settings = parts.settings
    if settings.mlflow_tracking_uri is None and not (settings.home / "mlflow.db").exists():
        yield Check("mlflow", "warn", "not created yet; the first command that needs it will", "mlops init")
        return
    parts.registry.alias("doctor-probe", "prod")
    yield Check("mlflow", "ok", _place(settings.tracking))
    found = queries.astray(parts)
    for one in found:
        yield Check("aliases", "fail", str(one), "mlops reconcile")
    if not found:
        yield Check("aliases", "ok", "MLflow agrees with the ledger")


def dagster(settings: Settings) -> Iterator[Check]:
    """The instance folder exists and was initialised by one process."""
    home = settings.instance_home
    if not (home / "dagster.yaml").exists():
        yield Check("dagster home", "warn", f"{home} has no dagster.yaml", "mlops init")
    elif not any((home / d).exists() for d in ("history", "storage")) and "postgres" not in (home / "dagster.yaml").read_text():
        yield Check("dagster home", "warn", f"{home} is not initialised", "mlops init")
    else:
        yield Check("dagster home", "ok", f"{home}")


def machine(settings: Settings) -> Iterator[Check]:
    """Disk, git and Docker."""
    near = next(p for p in (settings.home, settings.project_dir) if p.exists())
    free = shutil.disk_usage(near).free / 1e9
    level: Literal["ok", "warn", "fail"] = "fail" if free < FULL_DISK_GB else "warn" if free < LOW_DISK_GB else "ok"
    yield Check("disk", level, f"{free:,.1f} GB free", None if level == "ok" else f"du -sh {settings.home}/* | sort -h")
    repository = next((p for p in (settings.project_dir, *settings.project_dir.parents) if (p / ".git").exists()), None)
    if shutil.which("git") is None:
        yield Check("git", "warn", "not installed; runs will not know their commit", "install git")
    elif repository is None:
        yield Check("git", "warn", "no repository; runs will not know their commit", f"git init {settings.project_dir}")
    else:
        yield Check("git", "ok", str(repository))
    found = shutil.which("docker")
    yield Check("docker", "info", found or "not installed; `mlops up --lite` does without")


def look(settings: Settings) -> Iterator[Check]:
    """All checks, in the order in which a person would mend them."""
    parts = Parts(settings)
    checks: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", python),
        ("packages", packages),
        ("project", lambda: layout(settings)),
    ]
    if settings.models_dir.is_dir():
        checks += [
            ("specs", lambda: specs(settings)),
            ("state database", lambda: state(parts)),
            ("object store", lambda: store(parts)),
            ("mlflow", lambda: mlflow(parts)),
            ("dagster home", lambda: dagster(settings)),
            ("machine", lambda: machine(settings)),
        ]
    for name, check in checks:
        yield from _safely(name, check)


def _safely(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from check()
    except ZebraError as error:
        yield Check(name, "fail", error.message, error.fix)
    except Exception as error:
        yield Check(name, "fail", f"{type(error).__name__}: {error}", "mlops doctor -v, and see the store's or package's own log")


def _place(url: str) -> str:
    """A URL without its password."""
    from urllib.parse import urlsplit

    split = urlsplit(url)
    if split.password is None:
        return url
    return split._replace(netloc=f"{split.username}:***@{split.netloc.rpartition('@')[2]}").geturl()
