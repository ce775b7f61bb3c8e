"""A graph in ONNX Runtime, and labels out of probabilities. Shared by the check and the server; imports no scikit-learn."""

import math
from typing import Any

import numpy as np

# Up to here lists are quicker than arrays: a lone answer takes 1 us instead of 6.
FEW = 8


class Graph:
    """One ONNX graph with one input and one output, on one thread: at 20 us a call there is nothing to share out."""

    def __init__(self, graph: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it holds 1 MB for each version, and calls are as quick without
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """(rows, classes) probabilities, or (rows, 1) values."""
        found: np.ndarray = self._session.run(self._outputs, {self._input: matrix})[0]
        return found


def answers(found: np.ndarray, classes: list[Any], positive: int | None) -> tuple[list[Any], list[float] | None]:
    """(labels, scores): the likeliest class, the first of equals, as scikit-learn takes it; values where there are no classes.

    Raises:
        ValueError: an answer is not a finite number.
    """
    if len(found) <= FEW:
        return _few(found.tolist(), classes, positive)
    labels, scores = arrays(found, bool(classes), positive)
    said = labels.tolist()
    return [classes[k] for k in said] if classes else said, None if scores is None else scores.tolist()


def arrays(found: np.ndarray, classes: bool, positive: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(places among the classes, or values where there are none; scores), otherwise as `answers`."""
    if not np.isfinite(found).all():
        raise ValueError("an answer is not a finite number")
    if not classes:
        return found.reshape(-1), None
    # argmax takes the first of equals too, but 1,000 rows of two cost it 10 us more than a comparison.
    labels = found[:, 1] > found[:, 0] if found.shape[1] == 2 else found.argmax(axis=1)
    return labels.astype(np.intp, copy=False), None if positive is None else found[:, positive]


def _few(rows: list[list[float]], classes: list[Any], positive: int | None) -> tuple[list[Any], list[float] | None]:
    if not math.isfinite(sum(map(sum, rows))):
        raise ValueError("an answer is not a finite number")
    if not classes:
        return [row[0] for row in rows], None
    labels = [classes[row.index(max(row))] for row in rows]
    return labels, None if positive is None else [row[positive] for row in rows]
