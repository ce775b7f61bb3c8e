"""Tensors of the Open Inference Protocol: the JSON around them, and the binary extension that Triton's clients speak by default.

A body of the extension is JSON, as long as the header `Inference-Header-Content-Length` says, and then the binary data of the tensors
whose parameters have a `binary_data_size`, in their order: little-endian numbers, or texts that each follow their length in 4 bytes.
"""

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from zebra_serving.problems import FieldError, InputInvalid, Malformed, TooLarge
from zebra_serving.refusals import MAX_ROWS

LENGTH = b"inference-header-content-length"
DTYPES = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4",
    "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


class Tensor(msgspec.Struct):
    """One input. ``data`` is flat or nested like ``shape``; None until `filled` where it is binary."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class Asked(msgspec.Struct):
    """An output the client wants."""

    name: str
    parameters: dict[str, Any] | None = None


class Inference(msgspec.Struct):
    """The body of `/infer`."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Asked] | None = None
    parameters: dict[str, Any] | None = None

    def binary(self, output: Asked | None) -> bool:
        """Whether an output is wanted as binary data."""
        own = (output.parameters or {}).get("binary_data") if output else None
        return bool((self.parameters or {}).get("binary_data_output") if own is None else own)


_decode = msgspec.json.Decoder(Inference).decode


def inference(body: bytes, length: bytes | None) -> Inference:
    """A request with the data of all its tensors; ``length`` is the header of the binary extension.

    Raises:
        Malformed: neither JSON nor the extension, or binary data of another size than announced.
        InputInvalid: a tensor's binary data is no such tensor.
        TooLarge: more texts than a request may have rows.
    """
    size = len(body)
    if length is not None:
        if not length.isdigit() or len(length) > 19 or int(length) > size:  # of more than 4,300 digits `int` makes no number
            raise Malformed(f"The body has no {length.decode('latin-1')[:20]} bytes of JSON.", fix="Inference-Header-Content-Length")
        size = int(length)
    try:
        asked = _decode(memoryview(body)[:size])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Malformed(f"The body is no inference request: {str(error).rstrip('.')}.", fix="see openapi.json") from error
    at = size
    for tensor in asked.inputs:
        if tensor.data is None:
            wanted = (tensor.parameters or {}).get("binary_data_size")
            if not isinstance(wanted, int) or isinstance(wanted, bool) or not 0 <= wanted <= len(body) - at:
                raise Malformed(
                    f"The tensor '{tensor.name[:60]}' has no data.", fix="`data`, or `binary_data_size` of bytes behind the JSON"
                )
            tensor.data = _filled(tensor, body[at : at + wanted])
            at += wanted
    if at != len(body):
        raise Malformed(f"{len(body) - at} bytes belong to no tensor.", fix="name each tensor's binary_data_size")
    return asked


def packed(datatype: str, values: Sequence[Any]) -> bytes:
    """An output's binary data."""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))
    return np.array(values, dtype=DTYPES[datatype]).tobytes()


def _filled(tensor: Tensor, data: bytes) -> list[Any]:
    if tensor.datatype == "BYTES":
        return _texts(tensor, data)
    dtype = np.dtype(DTYPES[tensor.datatype]) if tensor.datatype in DTYPES else None
    if dtype is None or len(data) % dtype.itemsize:
        raise InputInvalid([FieldError(0, tensor.name, f"one of {', '.join(DTYPES)}", tensor.datatype[:60])])
    found = np.frombuffer(data, dtype)
    if dtype.kind != "f" or np.isfinite(found).all():
        return found.tolist()
    if np.isinf(found).any():
        raise InputInvalid(
            [FieldError(i, tensor.name, "a finite number", "infinity") for i in np.flatnonzero(np.isinf(found)).tolist()[:100]]
        )
    return [None if value != value else value for value in found.tolist()]  # as everywhere, NaN is a number that is missing


def too_many_texts(name: str) -> TooLarge:
    """What to say where texts, of which each row has one, go on beyond `MAX_ROWS`: 8 MiB hold two million empty ones."""
    return TooLarge(f"The tensor '{name[:60]}' has more than {MAX_ROWS:,} texts.", fix=f"send the rows in parts of {MAX_ROWS:,} or fewer")


def _texts(tensor: Tensor, data: bytes) -> list[str]:
    found, at = list[str](), 0
    try:
        while at < len(data):
            end = at + 4 + struct.unpack_from("<I", data, at)[0]
            if end > len(data):
                raise ValueError("it ends too early")
            found.append(data[at + 4 : end].decode())
            at = end
            if len(found) > MAX_ROWS:
                raise too_many_texts(tensor.name)
    except (struct.error, ValueError) as error:
        raise InputInvalid([FieldError(len(found), tensor.name, "UTF-8 text behind its length", str(error)[:60])]) from error
    return found
