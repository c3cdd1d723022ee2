"""Classes of operators and what each has to compute, from its shapes alone.

The formulas follow from the operators' definitions (ONNX operator specification). A multiplication with its
addition counts as two operations, as a machine's peak does; every other arithmetic or transcendental
function as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx import NodeProto

from isthmus.runtime.machines import Operator

Shape = tuple[int, ...] | None
# Returns the shape of a tensor with a batch of one, or None where it is unknown.
Shapes = Callable[[str], Shape]

# These only rename a buffer, or are gone when a network runs: nothing is computed or copied.
FREE = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Dropout"})
# These read the shape of their input and not its values.
DISCARDED = frozenset({"Shape", "Size", "ConstantOfShape"})
# These read of their first input only what they write.
COPIED = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})

_CONV_WEIGHT = {"Conv": 1, "ConvTranspose": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "FusedGemm"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_WINDOWS = frozenset({"MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"})
_REDUCTIONS = frozenset(
    {
        "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "QLinearGlobalAveragePool", "ReduceMean",
        "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
        "ReduceLogSumExp", "ReduceSumSquare",
    }
)  # fmt: skip
# Operations per element: batch statistics are folded into one multiplication and addition; the others
# compute a mean (1), a variance (3), the quotient (2), then scale and shift (2); a softmax maximum,
# difference, exponential, sum and quotient.
_NORMS = {
    "BatchNormalization": 2, "InstanceNormalization": 8, "LayerNormalization": 8, "GroupNormalization": 8,
    "SkipLayerNormalization": 9, "SimplifiedLayerNormalization": 5, "RMSNormalization": 5,
    "MeanVarianceNormalization": 6, "LpNormalization": 3, "LRN": 5, "Softmax": 5, "LogSoftmax": 6,
}  # fmt: skip
_ELEMENTWISE = frozenset(
    {
        "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BiasGelu",
        "BitShift", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear",
        "Div", "Elu", "Equal", "Erf", "Exp", "FastGelu", "Floor", "Gelu", "Greater",
        "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less",
        "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or",
        "PRelu", "Pow", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QuantizeLinear", "QuickGelu",
        "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
        "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu",
        "Where", "Xor",
    }
)  # fmt: skip
_MOVES = (
    FREE
    | DISCARDED
    | COPIED
    | {"Concat", "DepthToSpace", "Expand", "Pad", "SpaceToDepth", "Split", "Tile", "Transpose"}
)
_DOMAINS = ("", "ai.onnx", "com.microsoft")


def classify(node: NodeProto, shapes: Shapes) -> Operator:
    """Return the class of `node`; `other` for what only moves data and for what is not known here."""
    kind = node.op_type
    if node.domain not in _DOMAINS:
        return "other"
    if kind in _CONV_WEIGHT:
        return "depthwise" if _is_depthwise(node, shapes) else "conv"
    if kind in _PRODUCTS or kind in _RECURRENT or kind in ("Einsum", "Attention"):
        return "matmul"
    if kind in _NORMS:
        return "norm"
    if kind in _WINDOWS or kind in _REDUCTIONS:
        return "pool"
    return "elementwise" if kind in _ELEMENTWISE else "other"


def count_flops(node: NodeProto, shapes: Shapes) -> int | None:
    """Return the operations of `node` for one sample, or None if a shape or the operator is not known."""
    kind = node.op_type
    if node.domain not in _DOMAINS:
        return None
    if kind in _MOVES:
        return 0
    output, source = (_elements(shapes(names[0])) if names else None for names in (node.output, node.input))
    if output is None or source is None:
        return None
    if kind in _CONV_WEIGHT:
        return _convolution(node, shapes, output, source)
    if kind in _PRODUCTS:
        return _product(node, shapes, output)
    if kind == "Einsum":
        return _einsum(node, shapes)
    if kind in _RECURRENT:
        return _recurrent(node, shapes)
    if kind == "Attention":
        return _attention(node, shapes, output, source)
    if kind in _WINDOWS:
        return output * math.prod(_integers(node, "kernel_shape"))
    if kind in _REDUCTIONS:
        return source
    if kind in _NORMS:
        return _NORMS[kind] * output
    if kind == "Resize":
        # Linear interpolation weighs 2 neighbours along each of two axes; nearest only copies.
        return 0 if _text(node, "mode", "nearest") == "nearest" else 8 * output
    if kind in _ELEMENTWISE:
        folds = sum(1 for name in node.input if name) - 1 if kind in ("Sum", "Max", "Min", "Mean") else 1
        return max(folds, 1) * output
    return None


def _convolution(node: NodeProto, shapes: Shapes, output: int, source: int) -> int | None:
    """Each output is a sum over input channels of a group and the window; a transposed one the reverse."""
    weight = shapes(node.input[_CONV_WEIGHT[node.op_type]])
    if weight is None:
        return None
    # W is [M, C/group, k…] for Conv, [C, M/group, k…] for ConvTranspose: either way what one element meets.
    window = math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return 2 * source * window
    return 2 * output * window


def _product(node: NodeProto, shapes: Shapes, output: int) -> int | None:
    """Each output is a dot product over the inner dimension."""
    left = shapes(node.input[0])
    if not left:
        return None
    transposed = any(_integers(node, "transA"))
    return 2 * output * (left[-2] if transposed and len(left) > 1 else left[-1])


def _einsum(node: NodeProto, shapes: Shapes) -> int | None:
    """One multiplication and addition for every combination of all indices."""
    terms = _text(node, "equation", "").replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=False):
        shape = shapes(name)
        if shape is None or len(shape) != len(term) or "." in term:
            return None
        for index, size in zip(term, shape, strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return 2 * math.prod(sizes.values())


def _recurrent(node: NodeProto, shapes: Shapes) -> int | None:
    """Every weight meets every step of every sequence once; gates' functions are small beside it."""
    source, weight, recurrence = (shapes(name) for name in node.input[:3])
    if source is None or weight is None or recurrence is None:
        return None
    return 2 * source[0] * source[1] * (math.prod(weight) + math.prod(recurrence))


def _attention(node: NodeProto, shapes: Shapes, output: int, queries: int) -> int | None:
    """Scores and their use: each element of Q and of the output meets every key (Vaswani et al., eq. 1)."""
    keys = shapes(node.input[1]) if len(node.input) > 1 else None
    if node.domain == "com.microsoft" or keys is None or len(keys) < 3:
        return None
    return 2 * (queries + output) * keys[-2]


def _is_depthwise(node: NodeProto, shapes: Shapes) -> bool:
    groups = math.prod(_integers(node, "group"))
    weight = shapes(node.input[_CONV_WEIGHT[node.op_type]])
    return groups > 1 and weight is not None and weight[1] == 1


def _elements(shape: Shape) -> int | None:
    return None if shape is None else math.prod(shape)


def _integers(node: NodeProto, name: str) -> tuple[int, ...]:
    """Return the integer or integers of an attribute; none where it is left out."""
    attribute = next((attribute for attribute in node.attribute if attribute.name == name), None)
    if attribute is None:
        return ()
    return tuple(attribute.ints) or (attribute.i,)


def _text(node: NodeProto, name: str, default: str) -> str:
    value = next((attribute.s for attribute in node.attribute if attribute.name == name), None)
    return default if value is None else value.decode()
