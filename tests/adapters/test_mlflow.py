"""MLflow as a store that may lose a reply, be asked twice, or not be there."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.bench import template
from zebra_assets.adapters.mlflow import MlflowRegistry, MlflowTracker, prepare
from zebra_assets.adapters.mlflow_client import bounded, shown
from zebra_assets.contracts.model_folder import NOT_COUNTED, model_digest
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.errors import Conflict, NotFound, Unavailable

RUN = Run(
    id="churn-0123456789abcdef",
    model="churn",
    manifest_id="customers-0123456789abcdef",
    roles={},
    spec_digest="a" * 64,
    code=CodeRevision(digest="b" * 64),
    created_at=now(),
)


class Place:
    """A tracker and a registry on one store, with one run started and a folder to register."""

    def __init__(self, folder: Path) -> None:
        (folder / "mlflow.db").write_bytes((template() / "mlflow.db").read_bytes())
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.tracker = MlflowTracker(self.uri, (folder / "artifacts").as_uri())
        self.registry = MlflowRegistry(self.uri, ui_url=None)
        self.model = folder / "model"
        self.model.mkdir()
        (self.model / "MLmodel").write_text("flavors: {}")
        self.digest = model_digest(self.model)

    @property
    def client(self) -> Any:
        return self.tracker._client

    def started(self) -> Run:
        return RUN.model_copy(update={"mlflow_run_id": self.tracker.start("churn models/1", RUN, {"zebra.model": "churn"})})

    def runs(self) -> list[Any]:
        return list(self.client.search_runs([self.client.get_experiment_by_name("churn models/1").experiment_id]))

    def versions(self) -> list[Any]:
        return list(self.client.search_model_versions("name = 'churn'"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make MlflowClient lose the first reply of a method: before the store acted, or after."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.client import MlflowClient

    def lose(method: str, *, after: bool, times: int = 1) -> None:
        real, left = getattr(MlflowClient, method), [times]

        def call(*args: Any, **kwargs: Any) -> Any:
            if left[0] and not after:
                left[0] -= 1
                raise MlflowException("API request failed with exception: Connection reset by peer")
            answer = real(*args, **kwargs)
            if left[0]:
                left[0] -= 1
                raise MlflowException("API request failed with exception: Connection reset by peer")
            return answer

        monkeypatch.setattr(MlflowClient, method, call)

    return lose


def test_a_run_started_twice_is_one_mlflow_run_with_its_tags(place: Place) -> None:
    first, second = place.started(), place.started()
    assert first == second
    [found] = place.runs()
    assert found.data.tags["zebra.run_id"] == RUN.id and found.data.tags["zebra.model"] == "churn"
    assert found.info.artifact_uri.startswith((place.folder / "artifacts").as_uri())


def test_an_ended_run_is_opened_again(place: Place) -> None:
    run = place.started()
    place.tracker.finish(run.mlflow_run_id or "", "failed")
    assert place.runs()[0].info.status == "FAILED"
    place.started()
    assert place.runs()[0].info.status == "RUNNING"


@pytest.mark.parametrize("method", ["create_experiment", "create_run"])
def test_a_reply_lost_after_the_store_acted_makes_no_second_run(place: Place, losing: Callable[..., None], method: str) -> None:
    losing(method, after=True)
    place.started()
    assert len(place.runs()) == 1


def test_a_request_lost_before_the_store_acted_is_unknown_and_the_next_attempt_completes(place: Place, losing: Callable[..., None]) -> None:
    losing("create_run", after=False)
    with pytest.raises(Unavailable):
        place.started()
    assert not place.runs()
    place.started()
    assert len(place.runs()) == 1


def test_twins_made_by_somebody_else_are_marked_and_the_earliest_stays(place: Place) -> None:
    run = place.started()
    experiment = place.client.get_experiment_by_name("churn models/1").experiment_id
    twin = place.client.create_run(experiment, start_time=int(time.time() * 1000) + 50, tags={"zebra.run_id": RUN.id})
    assert place.started() == run
    assert place.client.get_run(twin.info.run_id).data.tags["zebra.duplicate_of"] == run.mlflow_run_id


def test_logging_again_adds_no_second_value(place: Place) -> None:
    mlflow_run_id = place.started().mlflow_run_id or ""
    for _ in range(2):
        place.tracker.log(mlflow_run_id, params={"C": 1, "long": "x" * 9000}, metrics={"auc": 0.5})
    assert place.tracker.metrics(mlflow_run_id) == {"auc": 0.5}
    assert len(place.client.get_metric_history(mlflow_run_id, "auc")) == 1


def test_the_same_run_and_bytes_are_one_version_with_its_tags(place: Place) -> None:
    run = place.started()
    assert place.registry.registered("churn", RUN.id) is None
    assert place.registry.register(run, place.model, place.digest) == place.registry.register(run, place.model, place.digest) == "1"
    assert place.registry.registered("churn", RUN.id) == ("1", place.digest)
    [version] = place.versions()
    assert version.tags == {
        "zebra.run_id": RUN.id,
        "zebra.digest": place.digest,
        "zebra.manifest": RUN.manifest_id,
        "zebra.spec": RUN.spec_digest,
        "zebra.code": RUN.code.digest,
    }


@pytest.mark.parametrize("method", ["create_registered_model", "create_model_version", "log_artifacts"])
def test_a_lost_reply_makes_no_second_version(place: Place, losing: Callable[..., None], method: str) -> None:
    losing(method, after=True)
    assert place.registry.register(place.started(), place.model, place.digest) == "1"
    assert len(place.versions()) == 1


def test_other_bytes_of_the_same_run_do_not_mix_with_what_was_uploaded(place: Place) -> None:
    run = place.started()
    place.client.log_artifacts(run.mlflow_run_id, str(place.model), "model")  # a trainer killed before it registered
    (place.model / "MLmodel").rename(place.model / "constraints.txt")
    digest = model_digest(place.model)
    version = place.registry.register(run, place.model, digest)
    assert model_digest(place.registry.download("churn", version, place.folder / "down")) == digest


def test_a_download_is_whole_and_a_good_copy_is_kept(place: Place) -> None:
    version = place.registry.register(place.started(), place.model, place.digest)
    folder = place.registry.download("churn", version, place.folder / "down")
    assert model_digest(folder) == place.digest
    stamp = (folder / "MLmodel").stat().st_ino
    assert place.registry.download("churn", version, place.folder / "down") == folder
    assert (folder / "MLmodel").stat().st_ino == stamp
    (folder / "MLmodel").write_text("changed")
    assert model_digest(place.registry.download("churn", version, place.folder / "down")) == place.digest
    assert [p.name for p in (place.folder / "down").iterdir()] == ["churn-1"]


def test_what_mlflow_notes_beside_a_loaded_model_does_not_count(place: Place) -> None:
    (place.model / NOT_COUNTED).write_text("model_name: churn")
    assert model_digest(place.model) == place.digest


def test_aliases_move_and_absent_things_are_said_to_be_absent(place: Place) -> None:
    registry = place.registry
    assert registry.alias("churn", "prod") is None
    version = registry.register(place.started(), place.model, place.digest)
    assert registry.alias("churn", "prod") is None
    registry.set_alias("churn", "prod", version)
    assert registry.alias("churn", "prod") == version
    with pytest.raises(NotFound, match="no version 9"):
        registry.set_alias("churn", "prod", "9")
    with pytest.raises(NotFound, match="no version 9"):
        registry.download("churn", "9", place.folder / "down")
    assert registry.alias("churn", "prod") == version and registry.url("churn", version) is None
    assert MlflowRegistry(place.uri, ui_url="http://ui/").url("churn", "1") == "http://ui/#/models/churn/versions/1"


def test_a_deleted_experiment_is_named(place: Place) -> None:
    place.started()
    place.client.delete_experiment(place.client.get_experiment_by_name("churn models/1").experiment_id)
    with pytest.raises(Conflict, match="was deleted"):
        place.started()


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9",
        "http://user:canary@127.0.0.1:9",
        "postgresql+psycopg2://user:canary@127.0.0.1:9/mlflow",
        "sqlite:////proc/nowhere/mlflow.db",
        "sqlite:///{folder}/not-a-database.db",
    ],
)
def test_a_store_that_is_not_there_is_reported_within_seconds_without_its_password(uri: str, tmp_path: Path) -> None:
    (tmp_path / "not-a-database.db").write_text("hello " * 100)
    uri = uri.format(folder=tmp_path)
    began = time.monotonic()
    for ask in (
        lambda: MlflowTracker(uri, tmp_path.as_uri()).start("x", RUN, {}),
        lambda: MlflowRegistry(uri, ui_url=None).alias("churn", "prod"),
        lambda: prepare(uri, tmp_path.as_uri()),
    ):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert "canary" not in str(caught.value) and caught.value.fix
    assert time.monotonic() - began < 30  # MLflow by itself tries for minutes


def test_a_server_that_accepts_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    import mlflow.tracking  # noqa: F401  its import is not what is measured

    from zebra_assets.adapters import mlflow_client

    monkeypatch.setattr(mlflow_client, "_PAUSES", ())
    monkeypatch.setattr(mlflow_client.repeat, "__kwdefaults__", {"timeout_s": 1})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            MlflowRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", ui_url=None).alias("churn", "prod")
    assert time.monotonic() - began < 20  # not the minutes that MLflow's own retries take


def test_the_bounds_on_mlflow_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with bounded(3), bounded(5):
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_registry_never_makes_a_store(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no MLflow store"):
        MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", ui_url=None).alias("churn", "prod")
    assert not list(tmp_path.iterdir())


def test_three_processes_may_touch_a_fresh_store_at_once(tmp_path: Path) -> None:
    import mlflow.tracking.client  # noqa: F401 (once, before forking)

    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"

    def children() -> Iterator[int]:
        for _ in range(3):
            if (pid := os.fork()) == 0:
                status = 1
                try:
                    MlflowTracker(uri, (tmp_path / "artifacts").as_uri()).start("x", RUN, {})
                    status = 0
                finally:
                    os._exit(status)
            yield pid

    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in list(children())] == [0, 0, 0]


def test_a_preparation_that_was_killed_halfway_is_not_seen_and_starts_anew(tmp_path: Path) -> None:
    import mlflow.tracking.client  # noqa: F401 (once, before forking)

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if (pid := os.fork()) == 0:
        prepare(uri, (tmp_path / "artifacts").as_uri())
        os._exit(0)
    patience = time.monotonic() + 30
    scratch = tmp_path / f".mlflow.db-{pid}"
    while not (scratch.exists() and scratch.stat().st_size > 100_000) and time.monotonic() < patience:
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not (tmp_path / "mlflow.db").exists() and scratch.exists()
    prepare(uri, (tmp_path / "artifacts").as_uri())
    MlflowTracker(uri, (tmp_path / "artifacts").as_uri()).start("x", RUN, {})
    assert not list(tmp_path.glob(".mlflow.db-*"))


def test_credentials_are_never_shown() -> None:
    assert shown("postgresql://u:p@h:5/db") == "postgresql://h:5/db"
    assert shown("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"
