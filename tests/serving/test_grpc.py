"""The Open Inference Protocol over gRPC: another way to `/v2`, with its tokens, limits, deadlines, capture and figures."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from benchmarks.serving.venvs import installed
from tests.serving.conftest import MODEL, ROW, Bench, in_the_loop, rows, served, until
from tests.serving.test_batching import Slow
from zebra_assets.adapters.token_file import TokenFile
from zebra_assets.governance.tokens import mint
from zebra_assets.settings import Settings
from zebra_serving.rpc import gateway
from zebra_serving.rpc.gateway import body_of
from zebra_serving.rpc.messages import CLASSES, SERVICE

CLIENTS = Path(__file__).with_name("clients")
TYPES = {
    "tenure": ("INT64", "<i8"),
    "monthly": ("FP64", "<f8"),
    "contract": ("BYTES", ""),
    "senior": ("BOOL", "?"),
    "gender": ("BYTES", ""),
}


class Client:
    """Calls without anybody's generated code."""

    def __init__(self, port: int, **metadata: str) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.metadata = [(key.replace("_", "-"), value) for key, value in metadata.items()]

    def __call__(self, method: str, *, timeout: float = 20, **fields: Any) -> Any:
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}", CLASSES[f"{method}Request"].SerializeToString, CLASSES[f"{method}Response"].FromString
        )
        return call(CLASSES[f"{method}Request"](**fields), timeout=timeout, metadata=self.metadata)

    def refused(self, method: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as refused:
            self(method, **fields)
        return refused.value.code(), refused.value.details()


@contextmanager
def serving(bench: Bench, **settings: Any) -> Iterator[tuple[Any, httpx.Client, int]]:
    changed = Bench(Settings(**{**bench.settings.model_dump(), "serving_grpc_port": 0, **settings}), bench.shelf)
    changed.promote("1")
    app = changed.app()
    with changed.running(app) as client:
        until(lambda: served(app) == "1")
        yield app, client, app.rpc.port


def typed(customers: list[dict[str, Any]]) -> dict[str, Any]:
    field = {"INT64": "int64_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents"}
    return {
        "model_name": MODEL,
        "inputs": [
            {
                "name": name, "datatype": kind, "shape": [len(customers), 1],
                "contents": {field[kind]: [c[name].encode() if kind == "BYTES" else c[name] for c in customers]},
            }
            for name, (kind, _) in TYPES.items()
        ],
    }  # fmt: skip


def raw(customers: list[dict[str, Any]]) -> dict[str, Any]:
    def packed(name: str, dtype: str) -> bytes:
        values = [c[name] for c in customers]
        if dtype:
            return np.array(values, dtype).tobytes()
        return b"".join(len(v).to_bytes(4, "little") + v.encode() for v in values)

    inputs = [{"name": name, "datatype": kind, "shape": [len(customers)]} for name, (kind, _) in TYPES.items()]
    return {"model_name": MODEL, "inputs": inputs, "raw_input_contents": [packed(name, dtype) for name, (_, dtype) in TYPES.items()]}


def test_the_six_calls_answer_as_rest_does(bench: Bench) -> None:
    customers = rows(7)
    with serving(bench) as (_, client, port):
        call = Client(port)
        assert call("ServerLive").live and call("ServerReady").ready and call("ModelReady", name=MODEL, version="1").ready
        assert call("ServerMetadata").name == client.get("/v2").json()["name"]
        about, said = call("ModelMetadata", name=MODEL), client.get(f"/v2/models/{MODEL}").json()
        assert [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in about.inputs] == said["inputs"]
        assert (about.platform, list(about.versions), [t.name for t in about.outputs]) == (said["platform"], ["1"], ["predict", "score"])
        wanted = client.post("/predict", json={"rows": customers}).json()["predictions"]
        labels, scores = [p["prediction"] for p in wanted], [p["score"] for p in wanted]
        answer = call("ModelInfer", id="mine", **typed(customers))
        predict, score = answer.outputs
        assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "1", "mine") and list(score.shape) == [7]
        assert [b.decode() for b in predict.contents.bytes_contents] == labels and list(score.contents.fp64_contents) == scores
        bare = call("ModelInfer", outputs=[{"name": "score"}], model_version="1", **raw(customers))
        assert np.frombuffer(bare.raw_output_contents[0], "<f8").tolist() == scores and not bare.outputs[0].HasField("contents")
        page = client.get("/metrics").text
        assert 'route="/v2/infer",status="200"' in page
        until(lambda: bench.events.count(MODEL) == 21)


def test_what_is_wrong_is_said_with_grpcs_codes(bench: Bench) -> None:
    with serving(bench) as (_, _, port):
        call = Client(port)
        code, words = call.refused("ModelInfer", **{**typed([ROW]), "model_name": "other"})
        assert code == grpc.StatusCode.NOT_FOUND and "fix:" in words
        for name in ("../churn", "churn/versions/1", "Churn", ""):
            assert call.refused("ModelReady", name=name)[0] == grpc.StatusCode.NOT_FOUND
        assert call.refused("ModelInfer", **{**typed([ROW]), "model_version": "9"})[0] == grpc.StatusCode.NOT_FOUND
        wrong = typed([ROW])
        wrong["inputs"][0].update(datatype="BYTES", contents={"bytes_contents": [b"five"]})
        code, words = call.refused("ModelInfer", **wrong)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "tenure: expected INT64, got BYTES" in words
        for change in ({"raw_input_contents": [b"x"]}, {"inputs": []}):
            assert call.refused("ModelInfer", **{**typed([ROW]), **change})[0] == grpc.StatusCode.INVALID_ARGUMENT
        infinite = typed([ROW])
        infinite["inputs"][1]["contents"] = {"fp64_contents": [float("inf")]}
        assert call.refused("ModelInfer", **infinite)[0] == grpc.StatusCode.INVALID_ARGUMENT
        many = raw([ROW] * 10_001)
        assert call.refused("ModelInfer", **many)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        text = typed([ROW])
        text["inputs"][2]["contents"] = {"bytes_contents": [b"\xff"]}
        assert call.refused("ModelInfer", **text)[0] == grpc.StatusCode.INVALID_ARGUMENT
        assert call("ModelInfer", **typed([ROW])).outputs


def test_a_token_is_asked_for_and_its_scopes_and_rate_count(bench: Bench) -> None:
    book = TokenFile(bench.settings.tokens_file)
    secrets = {}
    for scope in ("predict", "read"):
        made = mint(scope, [scope], at=datetime.now(UTC), by="test")
        book.add(made.token)
        secrets[scope] = made.secret
    with serving(bench, serving_rate_per_s=20.0) as (_, _, port):
        assert Client(port).refused("ModelInfer", **typed([ROW]))[0] == grpc.StatusCode.UNAUTHENTICATED
        assert Client(port).refused("ServerLive")[0] == grpc.StatusCode.UNAUTHENTICATED
        assert Client(port, authorization="Bearer nonsense").refused("ServerLive")[0] == grpc.StatusCode.UNAUTHENTICATED
        reader = Client(port, authorization=f"Bearer {secrets['read']}")
        assert reader("ServerLive").live
        assert reader.refused("ModelInfer", **typed([ROW]))[0] == grpc.StatusCode.PERMISSION_DENIED
        caller = Client(port, authorization=f"Bearer {secrets['predict']}")
        codes = set()
        for _ in range(80):
            try:
                caller("ModelInfer", **typed([ROW]))
            except grpc.RpcError as error:
                codes.add((error.code(), dict(error.trailing_metadata()).get("retry-after")))
        assert {code for code, _ in codes} == {grpc.StatusCode.RESOURCE_EXHAUSTED} and all(after for _, after in codes)


def test_a_deadline_is_the_requests_patience(bench: Bench) -> None:
    with serving(bench) as (app, _, port):
        seen: list[float] = []
        plane, answer = app.fleet.default.plane, app.fleet.default.plane.answer

        async def watched(*args: Any, patience_s: float, **named: Any) -> bytes:
            seen.append(patience_s)
            return await answer(*args, patience_s=patience_s, **named)

        plane.answer = watched  # type: ignore[method-assign]
        Client(port)("ModelInfer", timeout=20, **typed([ROW]))
        Client(port)("ModelInfer", timeout=None, **typed([ROW]))
        # gRPC rounds what is left upwards before it goes over the wire (of 3 s, 3.008 arrived once).
        assert 0 < seen[0] < 25 and seen[1] == 30


def test_a_call_that_is_given_up_is_counted_as_such(bench: Bench) -> None:
    with serving(bench) as (app, client, port):
        slow = Slow(app.loader.current.model)
        app.loader.current = replace(app.loader.current, model=slow)
        caller = Client(port)
        call = caller.channel.unary_unary(
            f"/{SERVICE}/ModelInfer", CLASSES["ModelInferRequest"].SerializeToString, CLASSES["ModelInferResponse"].FromString
        )
        pending = call.future(CLASSES["ModelInferRequest"](**typed([ROW])), timeout=20)
        until(lambda: slow.calls)
        pending.cancel()
        until(lambda: 'zebra_requests_total{route="/v2/infer",' in client.get("/metrics").text)
        slow.go.set()
        page = client.get("/metrics").text
    assert 'zebra_requests_total{route="/v2/infer",status="499"} 1.0' in page and 'status="0"' not in page


def test_many_typed_values_are_read_beside_the_event_loop_and_no_more_texts_than_rows_may_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def watched(request: Any) -> Any:
        seen.append(in_the_loop())
        return body_of(request)

    monkeypatch.setattr(gateway, "body_of", watched)
    with serving(bench) as (_, _, port):
        call = Client(port)
        assert call("ModelInfer", **typed([ROW])).outputs and call("ModelInfer", **typed(rows(2000))).outputs
        assert seen == [True, False]
        flood = typed([ROW])
        flood["inputs"][2]["contents"] = {"bytes_contents": [b""] * 10_001}
        code, words = call.refused("ModelInfer", **flood)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "'contract' has more than 10,000 texts" in words


def test_no_port_no_import_and_a_process_serves_both(bench: Bench) -> None:
    code = "import sys, zebra_serving.app; sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=bench.environment(), check=False).returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bench.promote("1")
    with bench.server(ZEBRA_SERVING_GRPC_PORT=str(port)) as (process, client):
        assert Client(port)("ModelInfer", **typed([ROW])).model_version == "1" and client.get("/ready").status_code == 200
        with bench.start("--port", "0", ZEBRA_SERVING_GRPC_PORT=str(port)) as second:
            assert second.wait(60) == 9 and "ZEBRA_SERVING_GRPC_PORT" in second.stderr.read()
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.slow
def test_tritons_own_client_is_answered_and_numbers_its_messages_like_ours(bench: Bench) -> None:
    customers = rows(40)
    with serving(bench) as (_, client, port):
        command = [str(installed("clients")), str(CLIENTS / "with_triton_grpc.py"), f"127.0.0.1:{port}", MODEL]
        done = subprocess.run(command, input=json.dumps(customers), capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        said = json.loads(done.stdout.splitlines()[-1])
        wanted = client.post("/predict", json={"rows": customers}).json()["predictions"]
    assert said["id"] == "triton-1" and said["labels"] == [p["prediction"] for p in wanted]
    assert said["scores"] == pytest.approx([p["score"] for p in wanted], abs=1e-12)
    for name, message in CLASSES.items():
        ours = {f.name: [f.number, f.type, f.label] for f in message.DESCRIPTOR.fields}
        assert ours.items() <= {**said["messages"][f"inference.{name}"]}.items(), name
