"""What makes a run another run, and what does not."""

import subprocess
from pathlib import Path

from tests.training.bench import notebook
from zebra_assets.contracts.digest import digest_of
from zebra_assets.training.provenance import code_digest, code_revision, environment


def folder_with(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "m"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_caches_and_notes_are_not_code(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, train__py="x = 1", model__yaml="notes: a")
    before = code_digest(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"1")
    folder_with(tmp_path, model__yaml="notes: b")
    assert code_digest(folder) == before


def test_a_helper_file_a_changed_line_and_a_new_name_are_other_code(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, train__py="x = 1")
    digests = {code_digest(folder)}
    folder_with(tmp_path, train__py="x = 2")
    digests.add(code_digest(folder))
    folder_with(tmp_path, helper__py="x = 2")
    digests.add(code_digest(folder))
    (folder / "helper.py").rename(folder / "other.py")
    assert len(digests | {code_digest(folder)}) == 4


def test_looking_at_a_notebook_does_not_change_it(tmp_path: Path) -> None:
    text = notebook("1 + 1")
    before = code_digest(folder_with(tmp_path, train__ipynb=text))
    shown = text.replace('"execution_count": null', '"execution_count": 7').replace('"outputs": []', '"outputs": [{"text": "2"}]')
    assert shown != text and code_digest(folder_with(tmp_path, train__ipynb=shown)) == before
    assert code_digest(folder_with(tmp_path, train__ipynb=notebook("1 + 2"))) != before


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_named_and_only_changes_of_the_model_make_it_dirty(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, train__py="x = 1")
    assert (code_revision(folder, "train.py").commit, code_revision(folder, "train.py").dirty) == (None, None)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "manifest.json").write_text("{}")
    found = code_revision(folder, "train.py")
    assert (found.commit, found.dirty) == (git(tmp_path, "rev-parse", "HEAD"), False)
    folder_with(tmp_path, helper__py="")
    assert code_revision(folder, "train.py").dirty is True


def test_the_environment_lists_distributions_with_versions() -> None:
    found = environment()
    assert any(line.startswith("scikit_learn==") for line in found["distributions"])
    assert digest_of(found) == digest_of(environment())
