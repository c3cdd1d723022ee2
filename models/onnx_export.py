"""Write a torch module as one ONNX file that every ONNX Runtime since 1.18 loads.

Decides the exporter (the dynamo one), the opset, and what is stripped. Knows nothing of bundles.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from isthmus.runtime.errors import InputError

OPSET = 18
# ONNX Runtime of 2024 and later reads IR 10; newer onnx packages would write a newer one by default.
MAX_IR_VERSION = 10
# Protobuf refuses larger messages, and a bundle holds one file per graph.
_MAX_BYTES = (1 << 31) - 1


def export_module(
    module: nn.Module, example: Tensor, path: str | os.PathLike[str], *, input_name: str, output_name: str
) -> None:
    """Write `module`, which takes one tensor and returns one, as an ONNX file with a dynamic first dimension.

    Args:
        module: In evaluation mode, on the CPU.
        example: An input; only its type and the shape behind the batch matter.
        path: The file; written whole or not at all.
        input_name: Name of the graph's input.
        output_name: Name of its output.

    Raises:
        InputError: If the module cannot be exported, fixes the batch size, or the file cannot be written.
    """
    # Of a batch of one the exporter would conclude that the dimension is always one.
    batch = torch.cat([example[:1], example[:1]])
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (batch,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                opset_version=OPSET,
                input_names=[input_name],
                output_names=[output_name],
                verbose=False,
            )
    except Exception as error:  # a user's module: whatever the exporter raises is about that module
        # The exporter wraps what went wrong in advice about itself.
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise InputError(
            f"{type(module).__name__} cannot be exported to ONNX ({reason}); make its forward free of "
            "control flow and of sizes that depend on the batch"
        ) from None
    assert program is not None
    write_model(program.model_proto, Path(path), type(module).__name__)


def write_model(model: onnx.ModelProto, path: Path, name: str) -> None:
    """Check `model`, strip what tells of this machine, and write it whole or not at all.

    Args:
        model: Is changed.
        path: The file.
        name: What errors call it.

    Raises:
        InputError: If it is too large, fixes the batch size, or the file cannot be written.
    """
    _write(_checked(model, name), path)


def _checked(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    _strip(model)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    if model.ByteSize() > _MAX_BYTES:
        raise InputError(f"{name}: {model.ByteSize()} bytes as ONNX, one file holds {_MAX_BYTES}")
    onnx.checker.check_model(model)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param or model.graph.output[0].type.tensor_type.shape.dim[0] != batch:
        raise InputError(
            f"{name}: does not answer a batch of n with n outputs; remove fixed sizes from its forward"
        )
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tells of the machine that exported: stack traces and paths in metadata and doc strings."""
    del model.metadata_props[:]
    model.doc_string = ""
    parts: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while parts:
        part = parts.pop()
        del part.metadata_props[:]
        part.doc_string = ""
        values = [*part.value_info]
        if isinstance(part, onnx.GraphProto):
            values += [*part.input, *part.output]
            for tensor in part.initializer:
                del tensor.metadata_props[:]
                tensor.doc_string = ""
        for value in values:
            del value.metadata_props[:]
            value.doc_string = ""
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
            parts += [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _write(model: onnx.ModelProto, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; choose another place") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence exporters, which warn of their dependencies and print graphs; errors are raised anyway."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
