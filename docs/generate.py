"""Write what the documentation can learn from the code: docs/reference/*.md and docs/schemas/*.json.

`make docs` writes them; tests/house compares them with what this would write, so they cannot fall behind. People edit the
code's own words (a command's docstring, a setting's description), never these files.
"""

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
MADE = "<!-- Written by `make docs` from the code; edit the code's own words. -->\n"


def pages() -> dict[Path, str]:
    """Every generated file with its content."""
    return {DOCS / "reference" / "cli.md": cli(), DOCS / "reference" / "settings.md": settings(), **schemas()}


def cli() -> str:
    """`mlops --help` of the group and of each command, as a terminal of 100 columns shows them."""
    import click

    from zebra_assets.cli.main import COMMANDS
    from zebra_assets.cli.main import cli as group

    def help_of(command: click.Command, path: str, parent: click.Context | None = None) -> str:
        # As a person's call makes it: with the group's own settings, which click caches on the command at its first use.
        context = click.Context(
            command, info_name=path, parent=parent, terminal_width=100, **{**group.context_settings, "max_content_width": 100}
        )
        return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())

    root = click.Context(group, info_name="mlops", terminal_width=100, **{**group.context_settings, "max_content_width": 100})
    parts = [f"# `mlops`\n\n{MADE}\n```text\n{help_of(group, 'mlops')}\n```\n"]
    for name in COMMANDS:
        command = group.get_command(root, name)
        assert command is not None
        parts.append(f"## `mlops {name}`\n\n```text\n{help_of(command, name, root)}\n```\n")
        if isinstance(command, click.Group):
            above = click.Context(command, info_name=name, parent=root)
            parts += [f"### `mlops {name} {sub}`\n\n```text\n{help_of(c, sub, above)}\n```\n" for sub, c in command.commands.items()]
    parts.append(_exit_codes())
    return "\n".join(parts)


def _exit_codes() -> str:
    from zebra_assets import errors

    rows = [(0, "Done.", "")]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ZebraError)]
    for kind in sorted(kinds, key=lambda kind: kind.exit_code):
        rows.append((kind.exit_code, (kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip(), f"`{kind.__name__}`"))
    rows.append((130, "Interrupted by Ctrl-C.", ""))
    table = "\n".join(f"| {code} | {error} | {what} |" for code, what, error in rows)
    return f"## Exit codes\n\n| code | error | what happened |\n|---|---|---|\n{table}\n"


def settings() -> str:
    """The settings as a table: variable, default, meaning."""
    from pydantic import SecretStr

    from zebra_assets.settings import Settings

    rows = []
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else "" if field.default is None else f"`{field.default}`"
        secret = " Secret: never printed." if SecretStr in getattr(field.annotation, "__args__", (field.annotation,)) else ""
        rows.append(f"| `ZEBRA_{name.upper()}` | {default} | {field.description}{secret} |")
    return (
        f"# Settings\n\n{MADE}\n"
        "First found wins: the environment, `<project>/.env`, the profile `infra/profiles/<profile>.yaml` (lower-case names without\n"
        "`ZEBRA_`), the default. `ZEBRA_PROJECT_DIR` and `ZEBRA_PROFILE` are read from the environment only.\n\n"
        "| variable | default | what it is |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def schemas() -> dict[Path, str]:
    """JSON Schemas of the nouns: files that people write, and files and events that the platform writes."""
    from pydantic import TypeAdapter

    from zebra_assets.contracts import dataset_spec, events, manifest, model_spec, promotion, route, run, verdicts

    nouns: dict[str, Any] = {
        "model": model_spec.ModelSpec,
        "dataset": dataset_spec.DatasetSpec,
        "manifest": manifest.Manifest,
        "run": run.Run,
        "eval-report": verdicts.EvalReport,
        "gate-decision": verdicts.GateDecision,
        "drift-report": verdicts.DriftReport,
        "promotion": promotion.Promotion,
        "route": route.Route,
        "route-verdict": route.Verdict,
        "event": events.Event,
    }
    found = {}
    for name, noun in nouns.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(noun).json_schema(by_alias=True)}
        found[DOCS / "schemas" / f"{name}.schema.json"] = json.dumps(schema, indent=2) + "\n"
    return found


def main() -> int:
    """Write what differs, and say so."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(DOCS.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
