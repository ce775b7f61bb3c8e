"""model.yaml and dataset.yaml: every complaint names file, line and field, and guesses at misspellings."""

from pathlib import Path
from typing import Any

import pytest

from zebra_assets.contracts.dataset_spec import DatasetSpec, load_dataset_spec
from zebra_assets.contracts.model_spec import load_model_spec
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.yaml_source import MAX_BYTES, parse
from zebra_assets.errors import NotFound, SpecInvalid, ZebraError

REPO = Path(__file__).parents[2]
MODEL = """\
schema_version: 1
name: churn
type: python
entrypoint: train.py
datasets:
  train: customers
  valid: customers
tracking:
  experiment_name: churn
metrics:
  - name: roc_auc
    direction: maximize
    threshold: 0.8
promotion:
  alias_prod: prod
hyperparams:
  grid:
    depth: [3, 5]
"""
DATASET = """\
schema_version: 1
name: customers
source:
  connector: files
  path: data/*.csv
key: [id]
columns:
  id: {dtype: string}
  age: {dtype: int64, nullable: true, min: 0}
  plan: {dtype: string, values: [basic, gold]}
  left: {dtype: string}
label: {column: left, type: binary, positive: "yes"}
splits:
  fractions: {train: 0.7, valid: 0.15, test: 0.15}
"""


def model(tmp_path: Path, old: str = "", new: str = "", folder: str = "churn") -> Any:
    assert old in MODEL
    path = tmp_path / folder / "model.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(MODEL.replace(old, new, 1) if old else MODEL)
    return load_model_spec(path.parent)


def dataset(tmp_path: Path, old: str = "", new: str = "") -> DatasetSpec:
    assert old in DATASET
    path = tmp_path / "customers" / "dataset.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(DATASET.replace(old, new, 1) if old else DATASET)
    return load_dataset_spec(path.parent)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("entrypoint:", "entrypiont:", ":4: unknown field 'entrypiont'. Did you mean 'entrypoint'?"),
        ("entrypoint: train.py\n", "", "field 'entrypoint' is missing."),
        ("  train: customers", "  trian: customers", ":6: unknown field 'datasets.trian'. Did you mean 'train'?"),
        ("    threshold: 0.8", "    treshold: 0.8", ":13: unknown field 'metrics.0.treshold'. Did you mean 'threshold'?"),
        ("  alias_prod: prod", "  alias_prd: prod", ":15: unknown field 'promotion.alias_prd'. Did you mean 'alias_prod'?"),
        ("type: python", "type: pyhton", ":3: type: Input should be 'python', 'notebook' or 'module' (got 'pyhton')."),
        ("schema_version: 1", "schema_version: 2", ":1: schema_version: Input should be 1 (got 2)."),
        ("entrypoint: train.py", "entrypoint: train.ipynb", "must end in .py for type python"),
        ("direction: maximize", "direction: up", ":12: metrics.0.direction: Input should be 'maximize' or 'minimize' (got 'up')."),
        ("threshold: 0.8", "threshold: high", ":13: metrics.0.threshold: Input should be a valid number"),
        ("alias_prod: prod", "alias_prod: latest", ":15: promotion.alias_prod: is reserved by MLflow"),
        ("alias_prod: prod", "alias_prod: staging", ":15: promotion: alias_prod and alias_staging must differ"),
        (
            "metrics:\n  - name: roc_auc\n    direction: maximize\n    threshold: 0.8\n",
            "metrics: []\n",
            ":10: metrics: List should have at least 1 item",
        ),
        ("name: churn\n", "name: churn\nname: other\n", ":3: key 'name' stands twice."),
        ("name: churn\n", "name: churn\n\tx: 1\n", ":3: not valid YAML"),
        ("[3, 5]", "[3, 5", "not valid YAML"),
        ("name: churn", "name: other", "name is 'other' but the folder is 'churn'"),
        ("[3, 5]", "&a [3, 5]", ":18: anchors and aliases are refused."),
        ("[3, 5]", "*a", ":18: anchors and aliases are refused."),
        ("[3, 5]", "!!python/object/apply:os.system [id]", ":18: tag 'tag:yaml.org,2002:python/object/apply:os.system' is refused"),
        ("[3, 5]", "!secret x", ":18"),
        ("[3, 5]", "[" * 30 + "]" * 30, ":18: nested deeper than 20."),
    ],
)
def test_a_mistake_in_model_yaml_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        model(tmp_path, old, new)
    assert said in caught.value.message
    assert str(tmp_path / "churn" / "model.yaml") in caught.value.message
    assert caught.value.fix
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("columns:", "colums:", "unknown field 'colums'. Did you mean 'columns'?"),
        ("nullable: true", "nulable: true", ":9: unknown field 'columns.age.nulable'. Did you mean 'nullable'?"),
        (
            "dtype: int64",
            "dtype: integer",
            ":9: columns.age.dtype: Input should be 'int64', 'float64', 'string', 'bool', 'date' or 'timestamp'",
        ),
        ("key: [id]", "key: [ident]", ":6: key names column 'ident', which `columns` does not list"),
        ("key: [id]", "key: [age]", "key column 'age' is nullable"),
        ("column: left", "column: gone", "label.column names column 'gone'"),
        ("column: left", "column: age", "label column 'age' is nullable"),
        (', positive: "yes"', "", ":12: label: a binary label needs `positive`"),
        ('positive: "yes"', "positive: yes", "label.positive is True, which cannot stand in a string column"),
        ("train: 0.7,", "train: 0.6,", ":14: splits: fractions sum to 0.9, not 1"),
        ("train: 0.7, valid: 0.15, test: 0.15", "valid: 0.5, test: 0.5", "fractions need a train share"),
        ("valid: 0.15", "vaild: 0.15", ":14: splits.fractions.vaild"),
        ("[basic, gold]", "[basic, 7]", ":10: columns.plan: `values` must all be string values"),
        ("plan: {dtype: string, values: [basic, gold]}", "plan: {dtype: string, min: 3}", ":10: columns.plan: min and max are for numbers"),
    ],
)
def test_a_mistake_in_dataset_yaml_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        dataset(tmp_path, old, new)
    assert said in caught.value.message
    assert str(tmp_path / "customers" / "dataset.yaml") in caught.value.message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid) as caught:
        model(tmp_path, "type: python\nentrypoint: train.py", "typ: python\nentrypoint: ../train.py")
    assert [line.split(": ", 1)[0].rpartition(":")[2] for line in caught.value.message.splitlines()] == ["1", "4", "3"]


BAD_NAMES = ["../x", "..", "/etc/passwd", "a/b", "a\\\\b", "A", "ä", "-x", "x y", "x" * 47, "", "a\\0b", "%2e%2e", "x;y", "x#y"]


@pytest.mark.parametrize("bad", BAD_NAMES)
@pytest.mark.parametrize("field", ["name: churn", "  train: customers", "  valid: customers", "  - name: roc_auc", "  alias_prod: prod"])
def test_no_name_in_model_yaml_leads_anywhere(tmp_path: Path, field: str, bad: str) -> None:
    with pytest.raises(ZebraError):
        model(tmp_path, field, f'{field.split(":")[0]}: "{bad}"')


@pytest.mark.parametrize(
    "bad", ["../train.py", "/train.py", "a/train.py", "a\\\\train.py", "..py", ".train.py", "tr\\0ain.py", "train.py\\n", "train.sh", ""]
)
def test_the_entrypoint_is_a_file_beside_the_spec(tmp_path: Path, bad: str) -> None:
    with pytest.raises(SpecInvalid, match="entrypoint"):
        model(tmp_path, "entrypoint: train.py", f'entrypoint: "{bad}"')


@pytest.mark.parametrize("bad", ["../requirements.txt", "/etc/passwd", ".hidden"])
def test_requirements_are_a_file_beside_the_model(tmp_path: Path, bad: str) -> None:
    with pytest.raises(SpecInvalid, match="pip_requirements"):
        model(tmp_path, "promotion:", f'env: {{pip_requirements: "{bad}"}}\npromotion:')


@pytest.mark.parametrize("bad", ["../../escape", "/abs", "a\\0b", "e\\nf"])
def test_no_experiment_name_leads_anywhere(tmp_path: Path, bad: str) -> None:
    with pytest.raises(SpecInvalid, match="experiment_name"):
        model(tmp_path, "experiment_name: churn", f'experiment_name: "{bad}"')


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_no_name_in_dataset_yaml_leads_anywhere(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ZebraError):
        dataset(tmp_path, "name: customers", f'name: "{bad}"')


def test_files_that_are_no_spec_are_refused(tmp_path: Path) -> None:
    class Anything(Noun):
        x: int = 0

    path = tmp_path / "a.yaml"
    with pytest.raises(NotFound):
        parse(Anything, path)
    for content, said in (
        (b"", "expected a mapping"),
        (b"- 1\n", "expected a mapping"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"x: " + b"1" * MAX_BYTES, "is the limit"),
        (b"? [a]\n: 1\n", ":1:"),
        (b"x: 1\n---\nx: 2\n", "not valid YAML"),
    ):
        path.write_bytes(content)
        with pytest.raises(SpecInvalid) as caught:
            parse(Anything, path)
        assert said in caught.value.message


def test_a_billion_laughs_are_not_expanded(tmp_path: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (tmp_path / "churn").mkdir()
    (tmp_path / "churn" / "model.yaml").write_text(bomb)
    with pytest.raises(SpecInvalid, match="anchors and aliases are refused"):
        load_model_spec(tmp_path / "churn")


def test_notes_explain_and_change_nothing_but_everything_else_does(tmp_path: Path) -> None:
    digest = model(tmp_path).digest
    assert model(tmp_path, "type: python", "notes: hello\ntype: python").digest == digest
    assert model(tmp_path, "[3, 5]", "[3, 6]").digest != digest
    assert model(tmp_path, "threshold: 0.8", "threshold: 0.80").digest == digest


def test_the_shipped_specs_are_legal_and_meet(tmp_path: Path) -> None:
    for folder in sorted(p.parent for p in (REPO / "models").glob("*/model.yaml")):
        spec = load_model_spec(folder)
        assert (folder / spec.entrypoint).is_file()
        for name in spec.datasets.names():
            recipe = load_dataset_spec(REPO / "manifests" / name)
            assert set(spec.sensitive.attributes) <= set(recipe.columns)
