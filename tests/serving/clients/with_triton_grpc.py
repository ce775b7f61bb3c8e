"""`tritonclient[grpc]` as its users write it: `with_triton_grpc.py HOST:PORT MODEL < rows`; prints what it was told. Its own environment.

Last come the fields that this house's messages and ours both know, as the published protocol numbers them.
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

url, model = sys.argv[1], sys.argv[2]
asked = json.load(sys.stdin)
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
about = client.get_model_metadata(model)
inputs = []
for column in about.inputs:
    values = [row[column.name] for row in asked]
    kind = np.dtype(object) if column.datatype == "BYTES" else np.dtype(triton.triton_to_np_dtype(column.datatype))
    cells = np.array([v.encode() if isinstance(v, str) else v for v in values], dtype=kind)
    tensor = triton.InferInput(column.name, list(cells.shape), column.datatype)
    tensor.set_data_from_numpy(cells)
    inputs.append(tensor)
outputs = [triton.InferRequestedOutput(name) for name in ("predict", "score")]
answer = client.infer(model, inputs, model_version=about.versions[0], outputs=outputs, request_id="triton-1", client_timeout=20)
labels = [label.decode() if isinstance(label, bytes) else label for label in answer.as_numpy("predict").tolist()]


def numbered(descriptor):
    fields = {f.name: [f.number, f.type, f.label] for f in descriptor.fields}
    return {descriptor.full_name: fields} | {n: f for inner in descriptor.nested_types for n, f in numbered(inner).items()}


known = {n: f for message in service_pb2.DESCRIPTOR.message_types_by_name.values() for n, f in numbered(message).items()}
print(json.dumps({"id": answer.get_response().id, "labels": labels, "scores": answer.as_numpy("score").tolist(), "messages": known}))
