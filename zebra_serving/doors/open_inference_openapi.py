"""How the Open Inference door is described to clients: its entries in `/openapi.json`. The door itself is `open_inference`."""

from typing import Any

from zebra_assets.contracts.model_folder import ModelFeature
from zebra_serving.doors.open_inference import NAMED, NUMBER
from zebra_serving.doors.wire import PATIENCE, PROBLEM, SAID
from zebra_serving.fleet import Fleet


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT, _TRUE, _WHOLENUMBER = {"type": "string"}, {"const": True}, {"type": "integer"}
_DATATYPES = {"type": "string", "enum": sorted({*NUMBER, "BOOL", "BYTES"})}
_INPUT = _object(name=_TEXT, shape=_list(_WHOLENUMBER), datatype=_TEXT, data={"type": "array"})
_REQUEST = {
    "type": "object", "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]}, "inputs": {**_list(_INPUT), "minItems": 1},
        "outputs": {"anyOf": [_list(_object(name=_TEXT)), {"type": "null"}]},
    },
}  # fmt: skip
_OUTPUT = _object(name=_TEXT, shape=_list(_WHOLENUMBER), datatype=_DATATYPES, data={"type": "array"})
_RESPONSE = _object(model_name=_TEXT, model_version=_TEXT, id=_TEXT, outputs=_list(_OUTPUT))
_DESCRIBED = _list(_object(name=_TEXT, datatype=_DATATYPES, shape=_list(_WHOLENUMBER)))
_METADATA = _object(name=_TEXT, versions=_list(_TEXT), platform=_TEXT, inputs=_DESCRIBED, outputs=_DESCRIBED)


def openapi(fleet: Fleet) -> dict[str, Any]:
    """The door's OpenAPI entries, with the names and the versions in force now."""
    served = [one.loader.current for one in fleet]
    name = _parameter("model", fleet.names)
    version = _parameter("version", sorted({s.promotion.version for s in served if s is not None}))
    said = {**SAID, 404: "another name or version"}
    problems = {str(s): {"description": text, "content": {"application/json": {"schema": PROBLEM}}} for s, text in said.items()}

    def get(summary: str, answer: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
        kept = {s: r for s, r in problems.items() if s in ("404", "503")}
        responses = {"200": {"description": "it is", "content": {"application/json": {"schema": answer}}}, **kept}
        return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}

    paths = {
        "/v2": get("V2: the server", _object(name=_TEXT, version=_TEXT, extensions=_list(_TEXT))),
        "/v2/health/live": get("V2: alive", _object(live=_TRUE)),
        "/v2/health/ready": get("V2: ready", _object(ready=_TRUE)),
    }
    body: dict[str, Any] = {"schema": _REQUEST}
    if served[0] is not None:
        body["example"] = {"inputs": [_tensor(f, served[0].schema.example()[f.name]) for f in served[0].schema.features]}
    infers = {
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {"200": {"description": "the outputs", "content": {"application/json": {"schema": _RESPONSE}}}, **problems},
    }
    for below, parameters in (("/v2/models/{model}", [name]), ("/v2/models/{model}/versions/{version}", [name, version])):
        paths[below] = get("V2: inputs and outputs", _METADATA, *parameters)
        paths[f"{below}/ready"] = get("V2: is the model ready", _object(name=_TEXT, ready=_TRUE), *parameters)
        paths[f"{below}/infer"] = {"post": {"summary": "V2: predict", "parameters": [*parameters, PATIENCE], **infers}}
    return paths


def _tensor(feature: ModelFeature, value: Any) -> dict[str, Any]:
    return {"name": feature.name, "shape": [1], "datatype": NAMED[feature.dtype], "data": [value]}


def _parameter(name: str, values: list[str]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **({"enum": values} if values else {})}}
