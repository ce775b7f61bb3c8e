"""Read a YAML contract so that every complaint has a line number.

Anchors, aliases, tags, duplicate keys, deep nesting, long lists and files over 256 KiB are refused, and before anything is
built of them: a 324-byte file of nested aliases expands to 9**9 items, 100,000 times "- " overflows libyaml's stack when
composed (a crash, not an exception), and 200,000 times "[" keeps its parser busy for 42 s. Called for model.yaml,
dataset.yaml and profiles; knows nothing of their fields.
"""

from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import SafeConstructor

from zebra_assets.errors import NotFound, SpecInvalid, did_you_mean, edit

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_ITEMS = 10_000  # of one list, keys counted too; pydantic complains of each wrong one up to three times, at 1.6 kB a complaint
MAX_FIGURE = 400  # characters of what is no text; 1:59:59:... of 180,000 makes an integer that Python refuses to print
MAX_COMPLAINTS = 20
TEXT_TAG = "tag:yaml.org,2002:str"
PLAIN_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

Path_ = tuple[str | int, ...]
T = TypeVar("T", bound=BaseModel)


def load(path: Path) -> tuple[Any, dict[Path_, int]]:
    """Return the document and the line (from 1) of each key path in it.

    Raises:
        NotFound: no such file.
        SpecInvalid: not UTF-8, not YAML, too large, too deep, or using anchors, tags or a key twice.
    """
    if not path.is_file():
        raise NotFound(f"{path} does not exist.", fix=f"create {path}, or check the name's spelling")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise SpecInvalid(f"{path} has {size:,} bytes; {MAX_BYTES:,} is the limit.", fix="keep data out of the YAML file")
    lines: dict[Path_, int] = {}
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8")
        _refuse_hostile(text, path)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        return (None if node is None else _build(node, (), lines, path)), lines
    except UnicodeDecodeError as error:
        raise SpecInvalid(f"{path} is not UTF-8: {error.reason} at byte {error.start}.", fix="save the file as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise SpecInvalid(f"{where}: not valid YAML: {problem}.", fix=edit(path, mark.line + 1 if mark else None)) from error


def _refuse_hostile(text: str, path: Path) -> None:
    """Look at the stream of events, which takes no stack and no memory, before a tree is made of it."""
    items: list[int] = []  # of each collection that is open
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SpecInvalid(f"{path}:{line}: anchors and aliases are refused.", fix="write the value out in full")
        if isinstance(event, yaml.CollectionEndEvent):
            items.pop()
        elif isinstance(event, yaml.NodeEvent):
            if items:
                items[-1] += 1
                if items[-1] > MAX_ITEMS:
                    raise SpecInvalid(f"{path}:{line}: more than {MAX_ITEMS:,} items in one list.", fix="keep data out of the YAML file")
            if isinstance(event, yaml.CollectionStartEvent):
                items.append(0)
                if len(items) > MAX_DEPTH:
                    raise SpecInvalid(f"{path}:{line}: nested deeper than {MAX_DEPTH}.", fix="flatten the structure")


def _build(node: yaml.Node, at: Path_, lines: dict[Path_, int], path: Path) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in PLAIN_TAGS:
        raise SpecInvalid(f"{path}:{node.start_mark.line + 1}: tag {node.tag!r} is refused.", fix="use plain lists and mappings")
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise SpecInvalid(f"{path}:{line}: a list or mapping is no key.", fix="use plain text as the key")
            if key in out:
                raise SpecInvalid(f"{path}:{line}: key {_clip(repr(key))} stands twice.", fix="keep one of the two")
            lines[(*at, key)] = line
            out[key] = _build(value_node, (*at, key), lines, path)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*at, i), lines, path) for i, item in enumerate(node.value)]
    if node.tag == TEXT_TAG:
        return node.value
    try:
        if len(node.value) > MAX_FIGURE:
            raise ValueError(f"it has {len(node.value):,} characters")
        return SafeConstructor().construct_object(node)  # a whole loader is a cycle, and a server reads a file for each version
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # 2026-02-30 looks like a date, 0b_ and 5,000 digits like an integer
        kind, said = node.tag.rpartition(":")[2], getattr(error, "problem", None) or error
        raise SpecInvalid(
            f"{path}:{node.start_mark.line + 1}: {_clip(repr(node.value))} is no {kind}: {said}.",
            fix="correct the value, or quote it as text",
        ) from error


def parse(model: type[T], path: Path) -> T:
    """Read ``path`` as ``model``; each complaint names file, line and field, and guesses at misspellings.

    Raises:
        NotFound: no such file.
        SpecInvalid: anything else wrong with it.
    """
    data, lines = load(path)
    if not isinstance(data, dict):
        raise SpecInvalid(f"{path}:1: expected a mapping of fields, got {type(data).__name__}.", fix="start with `schema_version: 1`")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        complaints = [_complaint(model, e, lines, path) for e in found[:MAX_COMPLAINTS]]
        if len(found) > MAX_COMPLAINTS:
            complaints.append(f"and {len(found) - MAX_COMPLAINTS:,} more.")
        raise SpecInvalid("\n".join(complaints), fix=edit(path)) from error


def _complaint(model: type[BaseModel], error: Any, lines: dict[Path_, int], path: Path) -> str:
    at: Path_ = tuple(error["loc"])
    line = next((lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in lines), 1)
    dotted = ".".join(_clip(str(p)) for p in at)
    if error["type"] == "extra_forbidden":
        return f"{path}:{line}: unknown field '{dotted}'.{did_you_mean(str(at[-1]), _fields_at(model, at[:-1]))}"
    if error["type"] == "missing":
        return f"{path}:{line}: field '{dotted}' is missing."
    message = str(error["msg"]).removeprefix("Value error, ")
    # A complaint about several fields at once stands at the one it names first.
    line = lines.get((*at, message.partition(" ")[0]), line)
    got = error.get("input")
    shown = f" (got {_clip(repr(got))})" if isinstance(got, str | int | float | bool) else ""
    return f"{path}:{line}: {f'{dotted}: ' if dotted else ''}{message}{shown}."


def _clip(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def _fields_at(model: type[BaseModel], at: Path_) -> list[str]:
    """The field names that would have been legal at a key path."""
    key_of_mapping = False
    for step in at:
        if isinstance(step, int) or key_of_mapping:
            key_of_mapping = False
            continue
        field = model.model_fields.get(step) or next((f for f in model.model_fields.values() if f.alias == step), None)
        if field is None:
            return []
        inner = _model_in(field.annotation)
        if inner is None:
            return []
        model, key_of_mapping = inner, get_origin(field.annotation) is dict
    return [f.alias or name for name, f in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for arg in get_args(annotation):
        if (found := _model_in(arg)) is not None:
            return found
    return None
