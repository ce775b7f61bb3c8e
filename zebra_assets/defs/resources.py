"""The one resource the assets share: the project's parts, opened on first use in the process that needs them."""

from functools import cached_property
from pathlib import Path

import dagster as dg

from zebra_assets.defs.leases import hold
from zebra_assets.parts import Parts
from zebra_assets.project import Project, load_project
from zebra_assets.settings import Settings, load_settings


class House(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Settings, specs and adapters of one project."""

    project_dir: str | None = None

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """A run leaves a lease that ends with its process; sensors and schedules have no run and leave none."""
        if context.run_id:
            hold(self.parts.locks, context.run_id)

    @cached_property
    def settings(self) -> Settings:
        """Read anew in each process, so that a profile or secret never travels through Dagster's config."""
        return load_settings(Path(self.project_dir) if self.project_dir else None)

    @cached_property
    def parts(self) -> Parts:
        """The adapters."""
        return Parts(self.settings)

    @cached_property
    def project(self) -> Project:
        """The specs."""
        return load_project(self.settings.project_dir)
