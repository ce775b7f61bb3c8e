"""A file name is a registration: connectors, runners and launchers are found by the name of their file.

`find("connector", "files")` imports `zebra_assets.datasets.connectors.files` and returns its one public class; outsiders
register with an entry point in the group ``zebra.<family>`` or are named as ``package.module:Class``. Called by the
stations that accept a kind by name. Knows nothing of what a kind does.
"""

import sys
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from zebra_assets.errors import UsageError, did_you_mean

FAMILIES = {
    "connector": "zebra_assets.datasets.connectors",
    "engine": "zebra_assets.datasets.engines",
    "runner": "zebra_assets.training.runners",
    "launcher": "zebra_assets.training.launchers",
}


@cache
def known(family: str) -> dict[str, str]:
    """Map each kind's name to ``module:Class`` or ``module``, built-ins first, then entry points."""
    names = dict(_built_in(family))
    for point in entry_points(group=f"zebra.{family}"):
        names.setdefault(point.name, point.value)
    return names


def find(family: str, name: str) -> Any:
    """Return the class registered as ``name``: the module's ``KIND`` attribute, or the class an outsider named.

    Raises:
        UsageError: no such kind; the message lists the known ones.
    """
    # Entry points stand in the metadata of every installed package, 8 ms to look through: only where the name is no built-in.
    target = name if ":" in name else _built_in(family).get(name) or known(family).get(name)
    if target is None:
        places = known(family)
        raise UsageError(
            f"No {family} of kind '{name}'.{did_you_mean(name, list(places))} Known: {', '.join(places)}.",
            fix=f"set one of these names, or 'your_package.module:YourClass' for a {family} of your own",
        )
    module_name, _, attribute = target.partition(":")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"The {family} '{name}' cannot be imported: {error}.", fix="install the extra that brings it (see pyproject.toml)"
        ) from error
    return getattr(module, attribute or "KIND")


@cache
def _built_in(family: str) -> dict[str, str]:
    package = FAMILIES[family]
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    return {p.stem: f"{package}.{p.stem}" for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}


def module_at(path: Path) -> ModuleType:
    """Import a Python file that belongs to no package, with its neighbours importable. Runs it: only in a process of its own.

    Raises:
        ImportError: it is no Python file; otherwise whatever its own code raises.
    """
    sys.path.insert(0, str(path.parent))
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[path.stem] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
