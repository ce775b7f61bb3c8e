"""KServe's `InferenceRESTClient` as its users write it: `with_kserve.py URL MODEL BINARY < rows`; prints what it was told."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

KINDS = {int: ("INT64", np.int64), float: ("FP64", np.float64), bool: ("BOOL", np.bool_), str: ("BYTES", np.object_)}


async def ask(url: str, model: str, binary: bool) -> dict:
    """Ready? Then infer."""
    rows = json.load(sys.stdin)
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await client.is_server_live(url) and await client.is_server_ready(url) and await client.is_model_ready(url, model)
    inputs = []
    for name, example in rows[0].items():
        datatype, kind = KINDS[type(example)]
        tensor = InferInput(name, [len(rows)], datatype)
        tensor.set_data_from_numpy(np.array([row[name] for row in rows], dtype=kind), binary_data=binary)
        inputs.append(tensor)
    answer = await client.infer(url, InferRequest(model_name=model, infer_inputs=inputs, request_id="kserve-1"), model_name=model)
    outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
    labels = [label.decode() if isinstance(label, bytes) else label for label in outputs["predict"]]
    return {"id": answer.id, "labels": labels, "scores": outputs["score"]}


print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], sys.argv[3] == "binary"))))
