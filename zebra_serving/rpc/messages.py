"""The messages of the Open Inference Protocol V2, made when this module is imported: no generated code, nothing to generate.

Names, numbers and types are the published protocol's (package `inference`, service `GRPCInferenceService`). Its `parameters` are
left out: unknown fields are skipped, as REST skips unknown parameters. Tests compare this with another house's client.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE, SERVICE = "inference", "inference.GRPCInferenceService"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD.TYPE_BOOL, "bytes": _FIELD.TYPE_BYTES, "double": _FIELD.TYPE_DOUBLE, "float": _FIELD.TYPE_FLOAT,
    "int32": _FIELD.TYPE_INT32, "int64": _FIELD.TYPE_INT64, "string": _FIELD.TYPE_STRING, "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
}  # fmt: skip
_NAMED = {"name": (1, "string"), "version": (2, "string")}
_TENSOR = {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "int64*")}
# Message -> field -> (number, type); a star is "repeated". A message's name with a dot is nested in the one before the dot.
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**_NAMED, "extensions": (3, "string*")},
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": {
        "name": (1, "string"), "versions": (2, "string*"), "platform": (3, "string"),
        "inputs": (4, "ModelMetadataResponse.TensorMetadata*"), "outputs": (5, "ModelMetadataResponse.TensorMetadata*"),
    },
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelInferRequest": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"),
        "inputs": (5, "ModelInferRequest.InferInputTensor*"), "outputs": (6, "ModelInferRequest.InferRequestedOutputTensor*"),
        "raw_input_contents": (7, "bytes*"),
    },
    "ModelInferRequest.InferInputTensor": {**_TENSOR, "contents": (5, "InferTensorContents")},
    "ModelInferRequest.InferRequestedOutputTensor": {"name": (1, "string")},
    "ModelInferResponse": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"),
        "outputs": (5, "ModelInferResponse.InferOutputTensor*"), "raw_output_contents": (6, "bytes*"),
    },
    "ModelInferResponse.InferOutputTensor": {**_TENSOR, "contents": (5, "InferTensorContents")},
    "InferTensorContents": {
        "bool_contents": (1, "bool*"), "int_contents": (2, "int32*"), "int64_contents": (3, "int64*"), "uint_contents": (4, "uint32*"),
        "uint64_contents": (5, "uint64*"), "fp32_contents": (6, "float*"), "fp64_contents": (7, "double*"),
        "bytes_contents": (8, "bytes*"),
    },
}  # fmt: skip
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
# Which field of `InferTensorContents` holds a datatype's values.
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="zebra_serving/open_inference_v2.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name in sorted(MESSAGES, key=lambda name: name.count(".")):
        outer, _, inner = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=inner)
        for field, (number, kind) in MESSAGES[name].items():
            plain = kind.rstrip("*")
            added = made[name].field.add(name=field, number=number)
            added.label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
            added.type = _SCALARS.get(plain, _FIELD.TYPE_MESSAGE)
            if plain not in _SCALARS:
                added.type_name = f".{PACKAGE}.{plain}"
    # A pool of its own: another library in this process may bring the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = _classes()
