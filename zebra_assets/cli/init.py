"""`mlops init`: a new project from the templates beside this file, or the stores of the project one stands in.

A template is a tree of `*.tmpl` files with `$name` in text and `NAME` in paths. Nothing that exists is overwritten: the
skeleton is written beside its place and moved there in one step.
"""

import csv
import importlib.util
import shutil
import tempfile
from pathlib import Path
from string import Template

import click

from zebra_assets.cli.verb import Call, Name, verb

TEMPLATES = Path(__file__).parent / "templates"
# The first ten columns of the Wisconsin diagnostic set, which scikit-learn ships: means over the nuclei of one sample.
FEATURES = ["radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points", "symmetry", "fractal"]


@verb()
@click.argument("name", required=False, type=Name("project"))
@click.option("--template", type=click.Choice(["tabular", "notebook"]), default="tabular", show_default=True, help="What the model is.")
def init(call: Call, name: str | None, template: str) -> None:
    """Write a new project called NAME into a folder of that name; without NAME, prepare the stores of this project.

    The new project runs as it stands, on a small real data set: mlops ingest, train, eval, promote.
    """
    if name is None:
        _prepare(call)
        return
    folder = (call.folder or Path.cwd()) / name
    written = write_project(folder, name, template)

    def show() -> None:
        from zebra_assets.cli.show import say

        for path in written:
            say(f"  {name}/{path}")
        say(f"Next: cd {name} && git init && mlops ingest {name} && mlops train {name}", "bold")

    call.answer({"project": str(folder), "files": written}, show)


def _prepare(call: Call) -> None:
    """Migrate every store and register partitions; again changes nothing."""
    from zebra_assets.cli.stack import initialise

    with call.progress("init") as tick:
        tick("preparing the stores")
        said = initialise(call)
    home = str(call.settings.home)
    call.answer({"project": str(call.settings.project_dir), "home": home, "prepared": True}, lambda: click.echo(said.rstrip()))


def write_project(folder: Path, name: str, template: str) -> list[str]:
    """Write the skeleton; the relative paths written.

    Raises:
        Conflict: the folder exists and is not empty.
    """
    from zebra_assets.errors import Conflict

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} exists and is not empty; nothing was written.", fix="choose another name, or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        draft = Path(scratch) / name
        for source in ("common", template):
            _fill(TEMPLATES / source, draft, {"name": name})
        (draft / ".env.example").write_text(env_example(), encoding="utf-8")
        _real_rows(draft / "data" / f"{name}.csv")
        if folder.exists():
            folder.rmdir()  # empty, as seen above; if not any more, this raises and nothing is lost
        shutil.move(draft, folder)
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _fill(source: Path, target: Path, values: dict[str, str]) -> None:
    for path in sorted(source.rglob("*.tmpl")):
        place = target / path.relative_to(source).as_posix().replace("NAME", values["name"]).removesuffix(".tmpl")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(Template(path.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")


def _real_rows(path: Path) -> None:
    """The Wisconsin diagnostic set as CSV, from the installed scikit-learn; without it only the header, for one's own rows."""
    path.parent.mkdir(parents=True)
    found = importlib.util.find_spec("sklearn")
    rows: list[list[str]] = []
    if found is not None and found.origin is not None:
        with (Path(found.origin).parent / "datasets" / "data" / "breast_cancer.csv").open(newline="") as file:
            shipped = list(csv.reader(file))
        classes = shipped[0][2:]
        rows = [[str(n), *row[: len(FEATURES)], classes[int(row[-1])]] for n, row in enumerate(shipped[1:], 1)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["sample", *FEATURES, "diagnosis"], *rows])


def env_example() -> str:
    """`.env.example`: every setting with its meaning and its default, from `Settings` itself."""
    from zebra_assets.settings import Settings

    lines = [
        "# Copy to .env and uncomment what you need. The environment beats .env, .env beats the profile in infra/profiles/.",
        "# ZEBRA_PROJECT_DIR and ZEBRA_PROFILE are read from the environment only: they say which .env and profile to read.",
        "# Secrets belong here, never into a profile or a spec.",
    ]
    for field, info in Settings.model_fields.items():
        default = "" if info.is_required() or info.default is None else str(info.default)
        lines += ["", f"# {info.description}", f"# ZEBRA_{field.upper()}={default}"]
    return "\n".join(lines) + "\n"
