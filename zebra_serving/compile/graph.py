"""A model's tail as an ONNX graph that gives probabilities (or values) and nothing else.

Runs in the compiling child only. Two things are mended that skl2onnx gets wrong or cannot say:

- Histogram gradient boosting compares float64 numbers with float64 thresholds; skl2onnx rounds both to float32. On rows at a
  threshold (and real data sits on thresholds) 10 % of the scores were wrong, by up to 0.57. The thresholds are put back as
  float64 tensors, which ONNX knows since ai.onnx.ml 3; the difference is below 2e-7 then.
- skl2onnx 1.20 hands numpy integers to onnx 1.23, which takes Python's own only.
"""

from typing import Any

import numpy as np

from zebra_serving.compile.plan import CannotCompile

_ML = "ai.onnx.ml"
_OPSETS = {"": 18, _ML: 3}


def graph_of(tail: Any, width: int, dtype: str) -> bytes:
    """Convert a fitted tail.

    Args:
        tail: a classifier with probabilities, or a regressor.
        width: columns of its matrix.
        dtype: float64 or float32, of the matrix.

    Raises:
        Exception: whatever skl2onnx says about a model it does not know; the caller keeps it as the reason.
    """
    import onnx
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from sklearn.base import is_classifier

    _mend_make_node()
    kind = DoubleTensorType if dtype == "float64" else FloatTensorType
    classifier = is_classifier(tail)
    if classifier and not hasattr(tail, "predict_proba"):
        raise CannotCompile("the classifier has no probabilities to take its labels from")
    options = {id(tail): {"zipmap": False}} if classifier else None
    model = to_onnx(tail, initial_types=[("x", kind([None, width]))], options=options, target_opset=_OPSETS)
    if classifier:
        del model.graph.output[0]  # the label: the runtime drops what nobody asks for, and labels follow from the probabilities
    trees = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    last = tail.steps[-1][1] if hasattr(tail, "steps") else tail
    if trees and dtype == "float64":
        for output in model.graph.output:
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        for opset in model.opset_import:
            opset.version = 3 if opset.domain == _ML else opset.version
        if len(trees) == 1 and hasattr(last, "_predictors"):
            _restore(trees[0], [tree for stage in last._predictors for tree in stage])
    return bytes(model.SerializeToString())


def thresholds(graph: bytes) -> list[tuple[int, float]]:
    """(slot, threshold) of every split in the graph's trees: where a wrong comparison would show."""
    import onnx

    found = set()
    for node in onnx.load_from_string(graph).graph.node:
        if node.op_type.startswith("TreeEnsemble"):
            has = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            values = has.get("nodes_values") or onnx.numpy_helper.to_array(has["nodes_values_as_tensor"]).tolist()
            splits = zip(has["nodes_featureids"], values, has["nodes_modes"], strict=True)
            found |= {(int(slot), float(value)) for slot, value, mode in splits if mode != b"LEAF"}
    return sorted(found)


def _restore(node: Any, trees: list[Any]) -> None:
    """Give a tree node its float64 thresholds and leaves back; each is looked up by tree and node number and compared."""
    import onnx

    has = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    side = "class" if "class_weights" in has else "target"
    leaf = np.array([mode == b"LEAF" for mode in has["nodes_modes"]])
    at = zip(has["nodes_treeids"], has["nodes_nodeids"], strict=True)
    exact = np.where(leaf, 0.0, [trees[t].nodes["num_threshold"][n] for t, n in at])
    weights = np.array([trees[t].nodes["value"][n] for t, n in zip(has[f"{side}_treeids"], has[f"{side}_nodeids"], strict=True)])
    near = np.allclose(weights, has[f"{side}_weights"], rtol=1e-5, atol=1e-9)
    if not near or not (exact.astype(np.float32) == np.float32(has["nodes_values"]))[~leaf].all():
        raise ValueError("skl2onnx numbers the trees in another order than scikit-learn")
    tensors = {"nodes_values": exact, f"{side}_weights": weights, "base_values": np.array(has.get("base_values", [0.0]), dtype=np.float64)}
    kept = [a for a in node.attribute if a.name not in (*tensors, "nodes_hitrates")]
    del node.attribute[:]
    node.attribute.extend(kept)
    for name, values in tensors.items():
        node.attribute.append(onnx.helper.make_attribute(f"{name}_as_tensor", onnx.numpy_helper.from_array(values, name)))


def _mend_make_node() -> None:
    import skl2onnx.common._container as container
    from onnx.helper import make_node

    def mended(*args: Any, **attributes: Any) -> Any:
        return make_node(*args, **{name: _plain(value) for name, value in attributes.items()})

    container.make_node = mended


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
