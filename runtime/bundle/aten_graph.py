"""A tail as a graph of ATen operators in data alone: `tail.aten.npz`, which nothing needs to execute to read.

`torch.export.load` falls back to unpickling, evaluates symbolic expressions from the file, and opens shared
objects in it: a bundle from elsewhere could run code. Here the file is an npz archive, read without pickle,
of tensors and one JSON text that names operators of ATen and how they are joined; any other name is refused.

JSON: `{"version": 1, "nodes": [[operator, arguments, keywords], ...], "output": N}`. An argument is a number,
a text of `TEXTS`, null, a list, or an object with one key: `{"node": i}` (-1 is the input), `{"tensor": i}`
(array `t{i}`), `{"dtype": name}`, `{"layout": name}`, `{"memory_format": name}`. torch is imported when a
graph is built.
"""

from __future__ import annotations

import io
import json
import operator
import re
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.errors import BundleError

VERSION: Final = 1
PYTHON: Final = frozenset({"add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem"})
# What operators of networks take as text: an operator that reads a file could not be told which.
TEXTS: Final = frozenset(
    {"none", "tanh", "floor", "trunc", "same", "valid", "constant", "reflect", "replicate"}
)
_ATEN = re.compile(r"aten\.([a-z][a-z0-9_]*)\.([A-Za-z][A-Za-z0-9_]*)")
_FLOATS = frozenset({"float32", "float64", "float16", "bfloat16"})
_DTYPES = _FLOATS | {"uint8", "int8", "int16", "int32", "int64", "bool"}


def pack(nodes: list[list[Any]], output: int, tensors: list[NDArray[Any]]) -> bytes:
    """Return the file of a graph; see the module for the form of `nodes`."""
    text = json.dumps({"version": VERSION, "nodes": nodes, "output": output})
    arrays = {f"t{index}": tensor for index, tensor in enumerate(tensors)}
    buffer = io.BytesIO()
    np.savez(buffer, graph=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def build(data: bytes, *, where: str, device: str, precision: str = "float32") -> Any:
    """Return a torch module that computes the graph in `data`.

    Args:
        data: The file.
        where: Its name, for messages.
        device: Where its tensors are, as torch names it.
        precision: torch's name of the type in which floating point numbers are computed.

    Raises:
        BundleError: If it is malformed, or names an operator that is none of ATen's.
    """
    import torch

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            tensors = {name: arrays[name] for name in arrays.files}
        graph = json.loads(tensors.pop("graph").tobytes())
        if graph["version"] != VERSION:
            raise BundleError(f"{where}: version {graph['version']!r}, this Isthmus reads {VERSION}")
        module = torch.nn.Module()
        builder = _Builder(module, torch.fx.Graph(), device, precision)
        return builder.build(graph["nodes"], graph["output"], tensors)
    except (ValueError, KeyError, TypeError, IndexError, OSError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{where}: not a graph of ATen operators ({reason}); export the bundle again"
        ) from None


class _Builder:
    def __init__(self, module: Any, graph: Any, device: str, precision: str) -> None:
        self._module, self._graph = module, graph
        self._device, self._precision = device, precision
        self._made: list[Any] = []
        self._tensors: dict[int, Any] = {}

    def build(self, nodes: list[Any], output: int, tensors: Mapping[str, NDArray[Any]]) -> Any:
        import torch

        for name, array in tensors.items():
            self._module.register_buffer(name, self._tensor(array))
        self._input = self._graph.placeholder("latent")
        for name, arguments, keywords in nodes:
            target = _target(name)
            self._made.append(
                self._graph.call_function(
                    target,
                    tuple(self._value(argument) for argument in arguments),
                    {str(key): self._value(value) for key, value in keywords.items()},
                )
            )
        self._graph.output(self._made[output])
        return torch.fx.GraphModule(self._module, self._graph).eval()

    def _tensor(self, array: NDArray[Any]) -> Any:
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape).to(self._device)
        return tensor.to(getattr(torch, self._precision)) if tensor.is_floating_point() else tensor

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if isinstance(value, str) and value not in TEXTS:
            raise ValueError(f"text {value!r}")
        if not isinstance(value, dict):
            return value
        ((kind, what),) = value.items()
        return self._named(kind, what)

    def _named(self, kind: str, what: Any) -> Any:
        import torch

        if kind == "node":
            return self._input if what == -1 else self._made[_index(what)]
        if kind == "tensor":
            index = _index(what)
            if f"t{index}" not in dict(self._module.named_buffers()):
                raise ValueError(f"tensor {index}")
            if index not in self._tensors:
                self._tensors[index] = self._graph.get_attr(f"t{index}")
            return self._tensors[index]
        if kind == "dtype" and what in _DTYPES:
            return getattr(torch, self._precision if what in _FLOATS else what)
        if kind == "memory_format" and what in ("contiguous_format", "channels_last", "preserve_format"):
            return getattr(torch, what)
        if kind == "layout" and what == "strided":
            return torch.strided
        if kind == "device":
            return torch.device(self._device)
        raise ValueError(f"{kind} {what!r}")


def _index(what: Any) -> int:
    if not isinstance(what, int) or what < 0:
        raise ValueError(f"index {what!r}")
    return what


def _target(name: Any) -> Any:
    import torch

    found = _ATEN.fullmatch(str(name))
    if found is not None:
        packet = getattr(torch.ops.aten, found[1], None)
        overload = getattr(packet, found[2], None)
        if overload is not None and isinstance(overload, torch._ops.OpOverload):
            return overload
    elif isinstance(name, str) and name.startswith("python.") and name[7:] in PYTHON:
        return getattr(operator, name[7:])
    raise ValueError(f"operator {name!r}")
