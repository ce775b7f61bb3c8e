"""Names and ids at the boundary, and digests that mean the same everywhere."""

from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra_assets.contracts.digest import canonical_json, digest_of, file_digest, sha256, stream_digest, tree_digest
from zebra_assets.contracts.manifest import Bundle, manifest_id
from zebra_assets.contracts.names import check_manifest_id, check_name, safe_join, slug
from zebra_assets.errors import Refused, UsageError


@settings(max_examples=300)
@given(st.text(max_size=60))
def test_a_name_that_passes_is_one_plain_path_segment(text: str) -> None:
    try:
        check_name(text)
    except UsageError:
        return
    assert text == text.lower().strip()
    assert not set(text) & set("./\\\x00%;#?\n ")
    assert slug(text).isidentifier() or slug(text)[0].isdigit()


@pytest.mark.parametrize("parts", [["../x"], ["..", "x"], ["/etc/passwd"], ["a", "../../x"], ["a\x00b"], ["link", "x"]])
def test_no_join_leaves_its_folder(tmp_path: Path, parts: list[str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(Refused):
        safe_join(root, *parts)


def test_a_join_below_the_folder_is_allowed(tmp_path: Path) -> None:
    assert safe_join(tmp_path, "a", "b.json") == tmp_path.resolve() / "a" / "b.json"


@pytest.mark.parametrize("bad", ["", "short", "../../../etc", "A" * 20, "x" * 65, "shop 0123456789", "shop|01234567"])
def test_what_is_no_partition_key_is_no_manifest_id(bad: str) -> None:
    with pytest.raises(UsageError):
        check_manifest_id(bad)


def test_the_longest_dataset_name_makes_a_legal_manifest_id() -> None:
    assert check_manifest_id(manifest_id("d" * 46, "a" * 64)) == "d" * 46 + "-" + "a" * 16


def test_a_trailing_newline_makes_no_legal_name() -> None:
    """`$` alone would let one through."""
    for check in (check_name, check_manifest_id):
        with pytest.raises(UsageError):
            check("tabular-churn\n")


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"b": 1, "a": [1.0, "ü"]}) == digest_of({"a": [1, "ü"], "b": 1.0})
    assert canonical_json({"b": 1, "a": 0.1}) == b'{"a":0.1,"b":1}'
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert stream_digest([b"a", memoryview(b"b")]) == sha256(b"ab")
    assert (
        Bundle(model="m", roles={"train": "shop-00000001", "valid": "shop-00000002"}).id
        == Bundle(model="m", roles={"valid": "shop-00000002", "train": "shop-00000001"}).id
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60])
def test_values_without_a_canonical_form_are_refused(value: float) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        digest_of({"x": value})


def test_a_trees_digest_is_that_of_its_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.py").write_bytes(b"1")
    before = tree_digest(tmp_path)
    (tmp_path / "a" / "x.py").rename(tmp_path / "a" / "y.py")
    assert tree_digest(tmp_path) != before
    (tmp_path / "a" / "y.py").rename(tmp_path / "a" / "x.py")
    assert tree_digest(tmp_path) == before
    assert file_digest(tmp_path / "a" / "x.py") == sha256(b"1")
