"""The doctor's probe believes what a store does, not what it says."""

from pathlib import Path
from typing import Any

import pytest

from tests.adapters.s3_servers import credentials, moto, weed
from tests.adapters.test_object_store import fsspec_dir, s3fs_store
from zebra_assets.adapters.object_store import open_store
from zebra_assets.adapters.store_probe import Promise, probe
from zebra_assets.contracts.object_store import ObjectStore

__all__ = ["credentials", "moto", "weed"]  # fixtures

PARTS = "If-None-Match on uploads in parts"


def broken(store: ObjectStore) -> list[Promise]:
    found = [promise for promise in probe(store) if not promise.kept]
    assert list(store.list("doctor/")) == [], "the probe cleans up"
    return found


def s3(endpoint: str, folder: Path) -> Any:
    return open_store("s3://lake/probe", cache=folder, endpoint_url=endpoint)


def test_real_stores_keep_every_promise(weed: str, tmp_path: Path) -> None:
    for store in (open_store(tmp_path.as_uri(), cache=tmp_path), s3(weed, tmp_path), s3fs_store(weed, tmp_path)):
        assert broken(store) == []


def test_a_store_that_looks_first_and_writes_then_is_a_warning(tmp_path: Path) -> None:
    (found,) = broken(fsspec_dir(tmp_path))
    assert not found.vital
    assert "two writers at the same moment" in found.lost


@pytest.mark.parametrize(("operation", "names"), [("PutObject", ["If-None-Match"]), ("CompleteMultipartUpload", [PARTS])])
def test_a_server_that_ignores_the_condition_is_found_out(moto: str, tmp_path: Path, operation: str, names: list[str]) -> None:
    store = s3(moto, tmp_path)

    def ignore(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop("If-None-Match", None)

    store.client.meta.events.register(f"before-call.s3.{operation}", ignore)
    found = broken(store)
    assert [promise.name for promise in found] == names
    assert found[0].lost
    assert found[0].vital == (operation == "PutObject")


def test_a_server_that_keeps_what_was_deleted_is_found_out(moto: str, tmp_path: Path) -> None:
    store = s3(moto, tmp_path)
    store.delete = lambda key: None
    (found,) = (promise for promise in probe(store) if not promise.kept)
    assert found.name == "delete"
