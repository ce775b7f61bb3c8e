"""`build_defs`: the same assembly for the daemon, the CLI and the tests, with any resource swapped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from zebra_assets.defs.datasets import dataset_asset
from zebra_assets.defs.io_managers import ZebraIOManager
from zebra_assets.defs.jobs import ingest_job, loop_job, monitor_job
from zebra_assets.defs.models import model_assets
from zebra_assets.defs.monitoring import drift_asset
from zebra_assets.defs.resources import House
from zebra_assets.defs.schedules import ingest_schedule, monitor_schedule
from zebra_assets.defs.sensors import build_sensors
from zebra_assets.project import load_project
from zebra_assets.settings import load_settings


def build_defs(*, project_dir: Path | None = None, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Definitions of every dataset and model of a project.

    Steps run in one process: the multiprocess executor re-imports dagster, mlflow and sklearn for each step, which cost
    4 CPU-seconds a step and made the chain 3x slower.

    Args:
        project_dir: default by settings.
        resources: replacements by name (`house`, `io_manager`).

    Raises:
        SpecInvalid: a spec is wrong; every complaint is listed.
    """
    settings = load_settings(project_dir)
    project = load_project(settings.project_dir)
    house = House(project_dir=str(settings.project_dir))
    ingest = {name: ingest_job(spec) for name, spec in project.datasets.items()}
    loop = {name: loop_job(spec) for name, spec in project.models.items()}
    monitor = {name: monitor_job(spec) for name, spec in project.models.items()}
    assets: list[dg.AssetsDefinition] = [dataset_asset(spec) for spec in project.datasets.values()]
    for name, spec in project.models.items():
        assets += [*model_assets(spec, settings.models_dir / name), drift_asset(spec)]
    return dg.Definitions(
        assets=assets,
        jobs=[*ingest.values(), *loop.values(), *monitor.values()],
        schedules=[
            *(ingest_schedule(spec, ingest[name]) for name, spec in project.datasets.items()),
            *(monitor_schedule(spec, monitor[name]) for name, spec in project.models.items()),
        ],
        sensors=list(build_sensors(project, [*ingest.values()], [*loop.values()], [*monitor.values()], settings.sensor_interval_s)),
        resources={"house": house, "io_manager": ZebraIOManager(house=house), **(resources or {})},
        executor=dg.in_process_executor,
    )
