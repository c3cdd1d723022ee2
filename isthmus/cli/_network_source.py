"""The network that `isthmus partition` is about: an ONNX file, or a torch network that is exported first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import console
from isthmus.cli._progress import progress
from isthmus.runtime.errors import InputError, PlanError

if TYPE_CHECKING:
    from isthmus.runtime.datasets import ImageSet

ModelArgument = Annotated[
    Path | None, typer.Argument(metavar="[MODEL.onnx]", help="The network, unless --model names one.")
]
ModelOption = Annotated[
    str | None, typer.Option(help="A torch network instead: a name, or path/to/file.py:factory.")
]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights of --model.")]
DatasetOption = Annotated[
    str | None, typer.Option(help="Real images: digits, npz:FILE or folder:DIR; tells what JPEG takes.")
]
ClassesOption = Annotated[int | None, typer.Option(min=2, help="Of --model without --dataset.")]
DimOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N", help="Size of a symbolic dimension of the ONNX file; may be repeated."),
]
ImageOption = Annotated[
    str | None, typer.Option(metavar="HxWxC", help="Of --model without --dataset, e.g. 32x32x3.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSource:
    """The ONNX file to cut, the torch modules behind its tensors, and real images."""

    path: Path
    modules: dict[str, str] | None
    images: ImageSet | None


@contextmanager
def network_source(
    file: Path | None,
    model: str | None,
    weights: Path | None,
    dataset: str | None,
    classes: int | None,
    image: str | None,
    keep_onnx: Path | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Iterator[NetworkSource]:
    """Yield what to cut; a torch network is exported first, to `keep_onnx` or for the time of the command.

    Raises:
        InputError: If the flags do not name one network.
    """
    if (file is None) == (model is None):
        raise InputError("give either MODEL.onnx or --model NAME, one of them")
    if file is not None:
        if weights is not None or classes is not None or image is not None or keep_onnx is not None:
            raise InputError(
                "--weights, --classes, --image and --keep-onnx belong to --model, not to an ONNX file"
            )
        yield NetworkSource(path=file, modules=None, images=_images_for(file, dataset, sizes))
        return
    assert model is not None
    images, shape_hwc, count = _torch_input(dataset, classes, image)
    with tempfile.TemporaryDirectory(prefix="isthmus-partition-") as folder:
        path = keep_onnx or Path(folder) / (Path(model.rpartition(":")[0] or model).stem + ".onnx")
        with progress(f"exporting {model}"):
            modules = _export(model, weights, shape_hwc, count, path)
        yield NetworkSource(path=path, modules=modules, images=images)


def _images_for(file: Path, dataset: str | None, sizes: Mapping[str, int] | None) -> ImageSet | None:
    """Return images of `dataset` in the size that the ONNX file takes."""
    if dataset is None:
        return None
    from isthmus.partitioner import input_image_shape
    from isthmus.runtime.datasets import load_dataset

    shape = input_image_shape(file, sizes=sizes)
    if shape is None:
        raise InputError(f"{file}: takes no image, so --dataset {dataset} does not apply; leave it out")
    return load_dataset(dataset, split="test", size=shape[:2], limit=64)


def _torch_input(
    dataset: str | None, classes: int | None, image: str | None
) -> tuple[ImageSet | None, tuple[int, int, int], int]:
    """Return images, image shape (H, W, C) and number of classes of a torch network."""
    if dataset is not None:
        from isthmus.runtime.datasets import load_dataset

        images = load_dataset(dataset, split="test", limit=64)
        return images, images.shape_hwc, len(images.classes)
    if classes is None or image is None:
        raise InputError("--model needs --dataset, or --classes N with --image HxWxC")
    sizes = image.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(f"--image {image!r}: give height, width and channels, e.g. 32x32x3")
    height, width, channels = map(int, sizes)
    return None, (height, width, channels), classes


def _export(
    model: str, weights: Path | None, shape_hwc: tuple[int, int, int], count: int, path: Path
) -> dict[str, str]:
    """Export the torch network to `path`; return the module path of every cut that training can use."""
    import torch

    from isthmus.models.backbones import load_weights, make_model
    from isthmus.models.cutting import list_cuts as list_sites
    from isthmus.models.teacher_export import export_onnx, match_cuts
    from isthmus.partitioner import list_cuts

    height, width, channels = shape_hwc
    module = make_model(model, count, channels, image_size=(height, width)).eval()
    if weights is not None:
        load_weights(module, weights)
    example_nchw = torch.zeros(1, channels, height, width)
    export_onnx(module, example_nchw, path)
    try:
        sites = list_sites(module, example_nchw)
    except PlanError as error:
        # The exporter follows a forward that torch.fx does not: it can be cut, only not be trained at a cut.
        console.print(f"note: no place for a trained bottleneck: {error}", markup=False, soft_wrap=True)
        return {}
    matched = match_cuts(module, path, [fact.name for fact in list_cuts(path)])
    known = {name: site.name for site in sites for name in (site.name, *site.aliases)}
    return {tensor: known[name] for tensor, name in matched.items() if name in known}
