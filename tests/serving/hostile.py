"""Model folders from strangers: each one tries to run code, to read or write elsewhere, to exhaust, or to be taken for another.

`CORPUS` maps a name to ``make(folder, canary)``: ``folder`` is a copy of a good model, ``canary`` a file that appears if what
was put there is ever executed. Every folder is served under its own true digest: the gate has been fooled, the server must not be.
"""

import io
import json
import os
import pickle
import secrets
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import yaml

Make = Callable[[Path, Path], None]


class Bomb:
    """Leaves the canary when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def code(canary: Path) -> str:
    """A module that leaves the canary when imported, and a loader that does when called."""
    touch = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    return f"{touch}\ndef _load_pyfunc(path):\n    {touch}\n"


def pickled(canary: Path) -> bytes:
    return pickle.dumps(Bomb(canary))


def mlmodel(change: Callable[[dict[str, Any], Path], Any]) -> Make:
    """A folder whose MLmodel is edited."""

    def make(folder: Path, canary: Path) -> None:
        document = yaml.safe_load((folder / "MLmodel").read_text())
        change(document, canary)
        (folder / "MLmodel").write_text(yaml.safe_dump(document))

    return make


def with_code(change: Callable[[dict[str, Any]], Any]) -> Make:
    """An MLmodel that points at code lying beside it."""

    def make(folder: Path, canary: Path) -> None:
        (folder / "code").mkdir()
        (folder / "code" / "evil_loader.py").write_text(code(canary))
        mlmodel(lambda d, _: change(d))(folder, canary)

    return make


def text(name: str, content: Callable[[Path], str | bytes]) -> Make:
    """A folder with one more (or another) file."""

    def make(folder: Path, canary: Path) -> None:
        data = content(canary)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return make


def instead(data: Callable[[Path], bytes]) -> Make:
    """A folder whose model file is something else under the right name."""
    return text("model.skops", data)


def skops(change: Callable[[dict[str, Any], dict[str, bytes], Path], Any], compression: int = zipfile.ZIP_STORED) -> Make:
    """A folder whose skops archive is edited: its schema, its members."""

    def make(folder: Path, canary: Path) -> None:
        path = folder / "model.skops"
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        schema = json.loads(members["schema.json"])
        change(schema, members, canary)
        members["schema.json"] = members["schema.json"] if members["schema.json"].startswith(b"!") else json.dumps(schema).encode()
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in members.items():
                # Of a fixed date, so that making it again gives the same bytes.
                archive.writestr(zipfile.ZipInfo(name), data.removeprefix(b"!"), compression)

    return make


def root_is(kind: str, **more: Any) -> Make:
    """A skops file whose outermost object is said to be something else."""
    module, _, name = kind.rpartition(".")
    return skops(lambda schema, members, canary: schema.update({"__module__": module, "__class__": name, **more}))


def called(function: str, loader: str = "FunctionNode") -> Make:
    """A skops file that wants a function."""
    module, _, name = function.rpartition(".")
    inner = {
        "__module__": module,
        "__class__": name,
        "__loader__": loader,
        "__id__": 7,
        "content": {"module_path": module, "function": name},
    }
    return skops(lambda schema, members, canary: schema.update(inner))


def object_array(canary: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    return out.getvalue()


def torch_zip(canary: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickled(canary))
        archive.writestr(zipfile.ZipInfo("archive/version"), "3")
    return out.getvalue()


def keras_lambda(canary: Path) -> bytes:
    layer = {"class_name": "Lambda", "config": {"function": {"code": code(canary)}}}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("config.json"), json.dumps({"class_name": "Functional", "config": {"layers": [layer]}}))
    return out.getvalue()


def joblib_bytes(canary: Path) -> bytes:
    out = io.BytesIO()
    joblib.dump(Bomb(canary), out)
    return out.getvalue()


def npy_of(shape: tuple[int, ...], descr: str = "<f8", payload: bytes = b"") -> bytes:
    """An .npy file whose header promises ``shape``."""
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + payload


def every_array(data: Callable[[Path], bytes]) -> Make:
    """A skops file in which each array is replaced."""

    def change(schema: dict[str, Any], members: dict[str, bytes], canary: Path) -> None:
        for name in [n for n in members if n.endswith(".npy")]:
            members[name] = data(canary)

    return skops(change)


def onnx_external(folder: Path, canary: Path) -> None:
    """A graph whose weights lie outside the folder."""
    import onnx
    from onnx import TensorProto, helper

    weight = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], [weight]
    )
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    mlmodel(lambda d, _: d["flavors"].update(onnx={"data": "model.onnx"}, python_function={"loader_module": "mlflow.onnx"}))(folder, canary)


def signature(inputs: object) -> Make:
    """A folder that says it reads other columns."""
    return mlmodel(lambda d, _: d["signature"].update(inputs=inputs if isinstance(inputs, str) else json.dumps(inputs)))


def link(name: str, target: Callable[[Path], str]) -> Make:
    def make(folder: Path, canary: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target(canary))

    return make


def hard_link(folder: Path, canary: Path) -> None:
    os.link(folder / "requirements.txt", canary.with_name(f"twin-{secrets.token_hex(4)}"))


def whole_link(folder: Path, canary: Path) -> None:
    elsewhere = canary.with_name(f"folder-{secrets.token_hex(4)}")
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere)


def pipe(name: str) -> Make:
    def make(folder: Path, canary: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def sock(folder: Path, canary: Path) -> None:
    (folder / "constraints.txt").unlink(missing_ok=True)
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may have 108 characters, and pytest's are longer
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("constraints.txt")
    finally:
        os.chdir(here)


def many_files(folder: Path, canary: Path) -> None:
    for n in range(1000):
        (folder / f"{n}.txt").touch()


def missing(name: str) -> Make:
    return lambda folder, canary: (folder / name).unlink()


def bombs_of_aliases(canary: Path) -> str:
    lines = ['a: &a ["x","x","x","x","x","x","x","x","x"]']
    lines += [f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=False)]
    return "\n".join(lines)


def yaml_tag(kind: str) -> Make:
    return text("MLmodel", lambda canary: f"flavors: !!python/{kind} ['touch {canary}']\n")


def deep(folder: Path, canary: Path) -> None:
    skops(lambda schema, members, _: members.update({"schema.json": b"!" + b'{"a":' * 100_000 + b"1" + b"}" * 100_000}))(folder, canary)


CORPUS: dict[str, Make] = {
    # code under a name of its own
    "pickle": text("model.pkl", pickled),
    "joblib": text("model.joblib", joblib_bytes),
    "cloudpickle": text("model.cloudpickle", lambda c: cloudpickle.dumps(Bomb(c))),
    "object array": text("weights.npy", object_array),
    "torch": text("model.pt", torch_zip),
    "torch, upper case": text("MODEL.PTH", torch_zip),
    "keras lambda": text("model.keras", keras_lambda),
    "a python file": text("train.py", code),
    "a sitecustomize": text("sitecustomize.py", code),
    "a path file": text("evil.pth", lambda c: f"import pathlib; pathlib.Path({str(c)!r}).touch()"),
    "a shared object": text("model.so", lambda c: b"\x7fELF" + bytes(60)),
    "a hidden file": text(".env", lambda c: "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=true"),
    # code under the right name
    "pickle renamed": instead(pickled),
    "joblib renamed": instead(joblib_bytes),
    "torch renamed": instead(torch_zip),
    "keras renamed": instead(keras_lambda),
    "object array renamed": instead(object_array),
    "pickle as the example": text("input_example.json", pickled),
    # what skops is asked to build
    "skops: os.system": called("os.system"),
    "skops: builtins.eval": called("builtins.eval"),
    "skops: subprocess.Popen": root_is("subprocess.Popen"),
    "skops: a type of one's own": root_is("evil_loader.Evil"),
    "skops: an unknown loader": root_is("sklearn.pipeline.Pipeline", __loader__="EvilNode"),
    "skops: a method of a module": root_is("os.path.join", __loader__="MethodNode"),
    "skops: an array with objects": every_array(object_array),
    "skops: an array of petabytes": every_array(lambda c: npy_of((10**15,))),
    "skops: an array of negative size": every_array(lambda c: npy_of((-1, 3))),
    "skops: an array cut off": every_array(lambda c: npy_of((1000,), payload=b"1234")),
    "skops: a schema 100,000 deep": deep,
    "skops: no schema": skops(lambda schema, members, _: members.update({"schema.json": b"!"})),
    "skops: a member outside": skops(lambda schema, members, c: members.update({"../../evil.py": code(c).encode()}) or schema.update(__loader__="ZipSlip")),
    "skops: a zip bomb": skops(lambda schema, members, _: members.update({"zeros.bin": bytes(60_000_000)}), zipfile.ZIP_DEFLATED),
    "skops: half a file": lambda folder, canary: os.truncate(folder / "model.skops", (folder / "model.skops").stat().st_size // 2),
    "skops: nothing": instead(lambda c: b""),
    # what the MLmodel asks for
    "loader_module": with_code(lambda d: d["flavors"]["python_function"].update(loader_module="evil_loader", code="code")),
    "loader_module of the system": mlmodel(lambda d, c: d["flavors"]["python_function"].update(loader_module="os")),
    "code": with_code(lambda d: d["flavors"]["python_function"].update(code="code")),
    "code of sklearn's flavour": with_code(lambda d: d["flavors"]["sklearn"].update(code="code")),
    "code outside": mlmodel(lambda d, c: d["flavors"]["python_function"].update(code=str(c.parent))),
    "cloudpickle declared": mlmodel(lambda d, c: d["flavors"]["sklearn"].update(serialization_format="cloudpickle")),
    "another model path": mlmodel(lambda d, c: d["flavors"]["sklearn"].update(pickled_model="../../model.pkl")),
    "an absolute model path": mlmodel(lambda d, c: d["flavors"]["python_function"].update(model_path="/etc/passwd")),
    "models from code": mlmodel(lambda d, c: d["flavors"]["python_function"].update(loader_module="mlflow.pyfunc.model", model_code_path="train.py")),
    "a custom pyfunc": mlmodel(lambda d, c: d.update(flavors={"python_function": {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}})),
    "another flavour beside": mlmodel(lambda d, c: d["flavors"].update(pytorch={"model_data": "data", "pytorch_version": "2"})),
    "onnx with data outside": onnx_external,
    "no flavours": mlmodel(lambda d, c: d.pop("flavors")),
    "flavours as a list": mlmodel(lambda d, c: d.update(flavors=["sklearn"])),
    "metadata as a list": mlmodel(lambda d, c: d.update(metadata=["zebra"])),
    "metadata of another kind": mlmodel(lambda d, c: d["metadata"]["zebra"].update(task="shell", command="touch")),
    # what the MLmodel is made of
    "yaml: python/object/apply": yaml_tag("object/apply:os.system"),
    "yaml: python/object/new": yaml_tag("object/new:os.system"),
    "yaml: python/name": text("MLmodel", lambda c: "flavors: !!python/name:os.system\n"),
    "yaml: aliases": text("MLmodel", bombs_of_aliases),
    "yaml: deep": text("MLmodel", lambda c: "[" * 200_000),
    "yaml: long": text("MLmodel", lambda c: "a: " + "x" * 300_000),
    "yaml: a key twice": text("MLmodel", lambda c: "flavors: {}\nflavors: {}\n"),
    "yaml: not text": text("MLmodel", lambda c: b"\xff\xfe\x00"),
    "yaml: nothing": text("MLmodel", lambda c: b""),
    # what it says it reads
    "signature: absent": mlmodel(lambda d, c: d.pop("signature")),
    "signature: a column less": signature([{"type": "long", "name": "tenure", "required": True}]),
    "signature: tensors": signature([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 10**12]}}]),
    "signature: an unknown type": signature([{"type": "object", "name": "tenure"}]),
    "signature: 100,000 deep": signature("[" * 100_000),
    "signature: a column twice": signature([{"type": "long", "name": "tenure"}] * 2),
    # what lies there
    "link to a file": link("requirements.txt", lambda c: "/etc/passwd"),
    "link to a device": link("constraints.txt", lambda c: "/dev/zero"),
    "link to a folder": link("constraints.txt", lambda c: "/etc"),
    "link to nowhere": link("constraints.txt", lambda c: "/nowhere"),
    "link for the model": link("model.skops", lambda c: "/proc/self/mem"),
    "link in a circle": link("constraints.txt", lambda c: "constraints.txt"),
    "the folder is a link": whole_link,
    "hard link": hard_link,
    "a pipe": pipe("constraints.txt"),
    "a pipe for the model": pipe("model.skops"),
    "a socket": sock,
    "a folder": lambda folder, canary: (folder / "sklearn").mkdir(),
    "a module that shadows": lambda folder, canary: ((folder / "sklearn").mkdir(), (folder / "sklearn/__init__.py").write_text(code(canary)))[0],
    "another case": text("mlmodel", lambda c: "flavors: {}"),
    "a name that looks the same": text("MLm\u043edel", lambda c: "flavors: {}"),
    "a name written backwards": text("model\u202egp.skops", lambda c: "x"),
    "a name with a line break": text("model\n.skops", lambda c: "x"),
    "a name of 250 characters": text("m" * 250, lambda c: "x"),
    "a thousand files": many_files,
    "no MLmodel": missing("MLmodel"),
    "no model": missing("model.skops"),
}  # fmt: skip

# Refused once the model's types are looked at, which takes a process of its own 2 s.
SLOW = {name for name in CORPUS if name.startswith("skops:") or name.endswith("renamed") or name == "signature: a column less"}
# Harmless to open; refused because the server asks a version about its own example first.
SELF_TESTED = {"pickle as the example"}
