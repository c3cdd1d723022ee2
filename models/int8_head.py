"""Write a head whose convolutions compute in 8 bits, with the same codes at its end.

Static quantisation as ONNX's QuantizeLinear and DequantizeLinear pairs, which ONNX Runtime fuses into
integer kernels: one scale per output channel for weights, one per tensor for activations, measured on
training images.
Weights have 7 bits: with 8, processors without an instruction for sums of byte products saturate, and a head
would give other codes there than where it was exported.

The latent's quantiser is one of those pairs: its scale is folded into the last convolution, whose integer
result then rounds to the codes themselves, by the same scale, with nothing rounded twice. The image may be
another (`entry="bytes"`): normalisation is folded into the first convolution, which reads the image's own
bytes. Where means differ by channel, only the image's border changes by that, because all channels are padded
with one byte.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from isthmus.models.onnx_export import export_module, quiet, write_model
from isthmus.models.quantise import Quantise
from isthmus.models.split_network import Normalise
from isthmus.runtime.errors import InputError

Entry = Literal["bytes", "float"]
ENTRIES: tuple[Entry, ...] = ("bytes", "float")

_OPERATORS = ("Conv", "Add", "Relu", "Clip", "MaxPool", "AveragePool")
_PIXELS, _LEVELS = "pixels", "levels"
_BATCH = 16


def write_int8_head(
    head: nn.Module, calibration_nhwc: NDArray[np.uint8], path: Path, *, entry: Entry = "bytes"
) -> None:
    """Write `head`, as `SplitNetwork.materialise_head` returns it, in 8 bits.

    Args:
        head: Uint8 image [n, H, W, c] → uint8 codes [n, C, h, w].
        calibration_nhwc: Training images whose activations say what the integers stand for.
        path: The file.
        entry: Where the integers begin: at the image's bytes, or after the first convolution, which then
            computes in 32 bits.

    Raises:
        InputError: If the head does not begin and end with a convolution, or the file cannot be written.
    """
    normalise, layers, codes = _parts(head)
    layers[-1] = _in_levels(layers[-1], codes)
    overrides = {_LEVELS: [_grid(codes.zero_point)]}
    if entry == "bytes":
        zero = _mean_byte(normalise)
        layers[0] = _on_bytes(layers[0], normalise, zero)
        core: nn.Module = nn.Sequential(*layers)
        given: NDArray[Any] = _centred(calibration_nhwc, zero)
        overrides[_PIXELS] = [_grid(zero)]
    else:
        core, given = nn.Sequential(normalise, *layers), calibration_nhwc
    with tempfile.TemporaryDirectory() as folder:
        exported, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("core", "pre", "int8"))
        export_module(
            core.eval(), torch.from_numpy(given[:2]), exported, input_name=_PIXELS, output_name=_LEVELS
        )
        with quiet():
            quant_pre_process(exported, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantised,
                _Batches(given),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(_OPERATORS),
                nodes_to_exclude=[] if entry == "bytes" else _through_first_convolution(prepared),
                extra_options={"TensorQuantOverrides": overrides},
            )
        model = onnx.load(quantised)
    _end_with_codes(model)
    _begin_with_image(model, calibration_nhwc.shape[1:], quantised_input=entry == "bytes")
    write_model(model, path, path.name)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: NDArray[Any]) -> None:
        self._batches = iter([inputs[at : at + _BATCH] for at in range(0, len(inputs), _BATCH)])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {_PIXELS: batch}


def _parts(head: nn.Module) -> tuple[Normalise, list[nn.Module], Quantise]:
    """Return what a head consists of, as copies."""
    head = copy.deepcopy(head)
    match list(head.children()):
        case [Normalise() as normalise, nn.Sequential() as encoder, Quantise() as codes]:
            layers = _flat(encoder)
            for place, layer in (("first", layers[0]), ("last", layers[-1])):
                if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros":
                    raise InputError(
                        f"its {place} layer is a {type(layer).__name__}, not a plain convolution"
                    )
            return normalise, layers, codes
    raise InputError("it does not consist of normalisation, layers and a uniform quantiser")


def _flat(layers: nn.Sequential) -> list[nn.Module]:
    # Exactly sequences: a class derived from one computes something else.
    return [part for layer in layers for part in (_flat(layer) if type(layer) is nn.Sequential else [layer])]


def _in_levels(last: nn.Module, codes: Quantise) -> nn.Conv2d:
    """Return `last` with the latent's scale folded in: it computes levels."""
    assert isinstance(last, nn.Conv2d)
    scale = codes.scale.reshape(-1)
    last.weight.data *= scale[:, None, None, None]
    if last.bias is not None:
        last.bias.data *= scale
    return last


def _mean_byte(normalise: Normalise) -> int:
    """Return the byte that comes closest to zero after normalisation, of all channels together."""
    zeros = -normalise.offset.reshape(-1) / normalise.gain.reshape(-1)
    return int(zeros.mean().round().clamp(0, 255))


def _on_bytes(first: nn.Module, normalise: Normalise, zero: int) -> nn.Conv2d:
    """Return `first` such that it takes bytes less `zero` instead of normalised values."""
    assert isinstance(first, nn.Conv2d)
    gain, offset = normalise.gain.reshape(-1), normalise.offset.reshape(-1)
    shift = (first.weight.data.sum((2, 3)) * (offset + gain * zero)).sum(1)
    if first.bias is None:
        first.bias = nn.Parameter(torch.zeros(first.out_channels), requires_grad=False)
    first.bias.data += shift
    first.weight.data *= gain[None, :, None, None]
    return first


def _centred(images_nhwc: NDArray[np.uint8], zero: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(images_nhwc.transpose(0, 3, 1, 2), dtype=np.float32) - np.float32(zero)


def _grid(zero_point: int) -> dict[str, Any]:
    """Return the quantisation by which an integer is its own value, less `zero_point`."""
    return {"scale": np.array(1, np.float32), "zero_point": np.array(zero_point, np.uint8)}


def _through_first_convolution(path: Path) -> list[str]:
    nodes = onnx.load(path).graph.node
    kinds = [node.op_type for node in nodes]
    return [node.name for node in nodes[: kinds.index("Conv") + 1]]


def _end_with_codes(model: onnx.ModelProto) -> None:
    """Make the integers that the last pair begins with the output."""
    graph = model.graph
    (last,) = (node for node in graph.node if _LEVELS in node.output)
    codes = last.input[0]
    graph.node.remove(last)
    _rename(graph.node, codes, "latent")
    (output,) = graph.output
    output.name = "latent"
    output.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def _begin_with_image(model: onnx.ModelProto, shape_hwc: Sequence[int], *, quantised_input: bool) -> None:
    """Make uint8 [n, H, W, c] the input, which is already what the first pair rounds to if there is one."""
    graph = model.graph
    (given,) = graph.input
    if quantised_input:
        (first,) = (node for node in graph.node if _PIXELS in node.input)
        transposed = onnx.helper.make_node("Transpose", ["image"], list(first.output), perm=[0, 3, 1, 2])
        graph.node.remove(first)
        graph.node.insert(0, transposed)
    else:
        _rename(graph.node, _PIXELS, "image")
    batch = given.type.tensor_type.shape.dim[0].dim_param
    given.CopyFrom(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [batch, *shape_hwc]))


def _rename(nodes: Sequence[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == old:
                    names[at] = new
