"""The one-shot, single-process initialiser: `python -m zebra_assets.defs.initialise`.

Several processes that touch a fresh SQLite DAGSTER_HOME at once corrupt it for good ("Version table 'alembic_version' has
more than one head present"), and a fresh MLflow store has the same race. So one process migrates every store and registers
the manifests on disk as partitions, under a lock; running it again changes nothing.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import dagster as dg
import yaml

from zebra_assets.defs.leases import reap
from zebra_assets.defs.partitions import known_keys
from zebra_assets.errors import ZebraError
from zebra_assets.parts import Parts
from zebra_assets.project import load_project
from zebra_assets.settings import Settings, load_settings

_DATABASES = ("history", "schedules")


def initialise(settings: Settings) -> dict[str, int]:
    """Prepare every store of a project; axis name to the number of partitions newly registered.

    Raises:
        Conflict: another initialiser is at work.
        Unavailable: a store cannot be reached.
    """
    from zebra_assets.adapters.mlflow import prepare
    from zebra_assets.adapters.state import migrate

    parts = Parts(settings)
    with parts.locks.hold("initialise"):
        migrate(settings.state)
        prepare(settings.tracking, settings.artifacts)
        return register_partitions(settings, parts)


def register_partitions(settings: Settings, parts: Parts) -> dict[str, int]:
    """Make the instance know every manifest on disk."""
    home = settings.instance_home
    home.mkdir(parents=True, exist_ok=True)
    shipped = settings.project_dir / "dagster_home" / "dagster.yaml"
    if not (home / "dagster.yaml").exists():
        if shipped.exists():
            shutil.copyfile(shipped, home / "dagster.yaml")
        else:
            (home / "dagster.yaml").touch()
    create_databases(home)
    added: dict[str, int] = {}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        reap(instance, parts.locks)
        for axis, keys in known_keys(load_project(settings.project_dir), parts).items():
            fresh = sorted(set(keys) - set(instance.get_dynamic_partitions(axis)), key=keys.index)
            if fresh:
                instance.add_dynamic_partitions(axis, fresh)
            added[axis] = len(fresh)
    return added


def create_databases(home: Path) -> None:
    """Create the SQLite databases of a fresh instance all or nothing: built beside it, then renamed into place.

    Killed half-way through its first migration, a database is neither fresh nor usable. Nothing happens where the databases
    exist, nor where dagster.yaml names another storage, which migrates itself.
    """
    if "storage" in (yaml.safe_load((home / "dagster.yaml").read_text()) or {}) or all((home / part).exists() for part in _DATABASES):
        return
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{home.name}-") as fresh:
        Path(fresh, "dagster.yaml").touch()
        with dg.DagsterInstance.from_config(fresh) as instance:
            instance.get_dynamic_partitions("none")
        for part in _DATABASES:
            if not (home / part).exists():
                Path(fresh, part).rename(home / part)


def main() -> int:
    """Run the initialiser and say what it did."""
    try:
        settings = load_settings()
        added = initialise(settings)
    except ZebraError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"stores ready in {settings.home}, instance in {settings.instance_home}\n")
    for axis, count in added.items():
        sys.stdout.write(f"{axis}: {count} new partition{'' if count == 1 else 's'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
