"""`tritonclient[http]` as its users write it: `with_triton.py URL MODEL BINARY < rows`; prints what it was told. Its own environment."""

import json
import sys

import numpy as np
import tritonclient.http as triton

url, model, binary = sys.argv[1], sys.argv[2], sys.argv[3] == "binary"
asked = json.load(sys.stdin)
client = triton.InferenceServerClient(url.removeprefix("http://"))
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
about = client.get_model_metadata(model)
inputs = []
for column in about["inputs"]:
    values = [row[column["name"]] for row in asked]
    kind = np.dtype(object) if column["datatype"] == "BYTES" else np.dtype(triton.triton_to_np_dtype(column["datatype"]))
    cells = np.array([v.encode() if isinstance(v, str) else v for v in values], dtype=kind)
    tensor = triton.InferInput(column["name"], list(cells.shape), column["datatype"])
    tensor.set_data_from_numpy(cells, binary_data=binary)
    inputs.append(tensor)
outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("predict", "score")]
answer = client.infer(model, inputs, model_version=about["versions"][0], outputs=outputs, request_id="triton-1")
labels = [label.decode() if isinstance(label, bytes) else label for label in answer.as_numpy("predict").tolist()]
print(json.dumps({"id": answer.get_response()["id"], "labels": labels, "scores": answer.as_numpy("score").tolist()}))
