"""Export a trained split network as a bundle.

Decides what a bundle holds and on which images its figures are taken: frequency tables on training images,
the utilities that a policy reads on images held out of training, and test images on nothing that anyone
chooses by (their accuracy is noted as provenance; `isthmus eval` measures it in full). Written beside its
place and moved there whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch

from isthmus import __version__
from isthmus.models.graphs import check_graphs, write_graphs
from isthmus.models.head_choice import Heads, choose_heads
from isthmus.models.measure import accuracy, host_name, measure_points
from isthmus.models.output_names import check_images, labelled_for
from isthmus.models.split_network import SplitNetwork
from isthmus.models.staging import staged_directory
from isthmus.models.tail_export import write_tail
from isthmus.runtime.bundle import (
    POINTS,
    SCHEMA_VERSION,
    TABLES,
    TAIL,
    TAIL_ATEN,
    Bundle,
    InputSpec,
    LatentSpec,
    Manifest,
    OperatingPoint,
    load_bundle,
    write_manifest,
)
from isthmus.runtime.bundle.networks import BundleNetworks, open_networks
from isthmus.runtime.codecs import FrequencyTables
from isthmus.runtime.datasets import ImageSet, hold_out, spread
from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.golden import verify, write_golden

CODECS = ("rans", "raw", "bitshuffle-lz4")
_TABLE_IMAGES = 4096
_MEASURED_IMAGES = 2000
_PARITY_IMAGES = 64
_GOLDEN_IMAGES = 4
_BATCH = 128

Say = Callable[[str], None]


def export_bundle(
    network: SplitNetwork,
    out: Path,
    *,
    train: ImageSet,
    test: ImageSet | None = None,
    calibration: ImageSet | None = None,
    name: str | None = None,
    facts: Mapping[str, str] | None = None,
    local: bool = False,
    torch_tail: bool = False,
    heads: Heads = "fp32",
    threads: int = 1,
    progress: Say | None = None,
) -> Bundle:
    """Write `network` as a bundle into the directory `out` and return it, loaded and verified.

    Args:
        network: Trained and calibrated.
        out: A new or empty directory, or a bundle to replace.
        train: The training set, whole: what `facts["held_out"]` says training held out is held out again.
        test: Images whose accuracy is noted in the provenance.
        calibration: Images to measure utilities on instead of held-out ones, e.g. because the uncut network
            was trained elsewhere and knows the training images by heart.
        name: Model name on the wire; None: from the network's.
        facts: Provenance from the checkpoint.
        local: Whether to carry the uncut network for the device.
        torch_tail: Whether to carry the tail for a server's torch backend.
        heads: Arithmetic of the heads: "fp32", "int8" (where that is accurate enough) or "auto" (where it is
            also faster on this machine).
        threads: Threads per network while timing.
        progress: Called with what is being done.

    Raises:
        InputError: If images do not fit the network, or `out` is taken.
        GateError: If an exported file does not compute what torch does.
        ArtifactError: If `facts` contradict themselves.
    """
    say = progress or (lambda _what: None)
    config = network.config
    for images in (train, test, calibration):
        if images is not None:
            check_images(config, images)
    manifest = _manifest(network, name or default_name(config.model))
    fitting, measured = _split(train, calibration, str((facts or {}).get("held_out", 0)))
    measured = labelled_for(network, measured)
    with staged_directory(out) as root:
        modules = write_graphs(network, root, local=local, progress=say)
        networks, timed = _opened(manifest, modules, root, threads)
        say("comparing with torch")
        check_graphs(modules, networks, measured.images[spread(len(measured), _PARITY_IMAGES)])
        if torch_tail:
            say(TAIL_ATEN)
            latents = networks.heads[-1].run(measured.images[spread(len(measured), _PARITY_IMAGES)])
            write_tail(modules[TAIL], torch.from_numpy(latents), root / TAIL_ATEN)
        provenance = _provenance(network, facts or {}, fitting)
        if heads != "fp32":
            choices = choose_heads(
                [modules[head.name] for head in networks.heads],
                networks,
                timed,
                root=root,
                wanted=heads,
                manifest=manifest,
                fitting=fitting,
                measured=measured,
                threads=threads,
                progress=say,
            )
            provenance["heads"] = "; ".join(str(choice) for choice in choices)
            networks, timed = _opened(manifest, modules, root, threads)
        # From here on everything is fitted to and measured on the heads that ship.
        say("frequency tables")
        tables = FrequencyTables.fit([head.run(fitting.images) for head in networks.heads])
        (root / TABLES).write_bytes(tables.to_bytes())
        points = measure_points(
            networks,
            timed,
            points=manifest.points,
            zero_points=network.zero_points,
            tables=tables,
            images=measured,
            teacher_utility=_teacher_accuracy(network, measured),
            host=host_name(threads),
            progress=say,
        )
        (root / POINTS).write_bytes(msgspec.json.format(msgspec.json.encode(points), indent=2))
        say("golden vectors")
        write_golden(root, manifest, tables, measured.images[spread(len(measured), _GOLDEN_IMAGES)])
        if test is not None:
            say("test images")
            provenance.update(_test_facts(network, networks, labelled_for(network, test)))
        write_manifest(
            root, msgspec.structs.replace(manifest, table_id=tables.table_id, provenance=provenance)
        )
        say("verifying")
        verify(load_bundle(root))
    return load_bundle(out)


def default_name(ref: str) -> str:
    """Return a model name for the wire from a model reference: its own, or that of the user's factory."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ref.rpartition(":")[2]).strip("._-")[:64] or "model"


def _opened(
    manifest: Manifest, present: Collection[str], root: Path, threads: int
) -> tuple[BundleNetworks, BundleNetworks]:
    """Return the networks in `root` to compute with, and again with `threads` threads, to be timed."""

    def opened(count: int | None) -> BundleNetworks:
        return open_networks(manifest, present, lambda file: (root / file).read_bytes(), threads=count)

    return opened(None), opened(threads)


def _manifest(network: SplitNetwork, name: str) -> Manifest:
    config = network.config
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InputError(f"name {name!r}: give 1 to 64 letters, digits, dots, dashes or underscores")
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        task="classification",
        labels=config.labels,
        input=InputSpec(height=config.input_height, width=config.input_width, channels=config.input_channels),
        latent=LatentSpec(
            channels=config.channels,
            height=config.latent_height,
            width=config.latent_width,
            zero_points=network.zero_points,
        ),
        widths=config.widths,
        points=tuple(
            OperatingPoint(width_index, channels)
            for width_index in range(len(config.widths))
            for channels in config.channel_counts
        ),
        codecs=CODECS,
        table_id="0" * 16,
        files={},
    )


def _split(train: ImageSet, calibration: ImageSet | None, held_out: str) -> tuple[ImageSet, ImageSet]:
    """Return the images for the frequency tables and those for the utilities."""
    if not held_out.isdecimal():
        raise ArtifactError(f"the checkpoint says it held {held_out!r} images out, not a number; train again")
    if calibration is not None:
        fitting, measured = train, calibration
    elif int(held_out):
        fitting, measured = hold_out(train, int(held_out))
    else:
        fitting, measured = hold_out(train)
        measured = measured.subset(np.arange(len(measured)), name=f"{measured.name}, seen in training")
    return _at_most(fitting, _TABLE_IMAGES), _at_most(measured, _MEASURED_IMAGES)


def _at_most(images: ImageSet, count: int) -> ImageSet:
    if len(images) <= count:
        return images
    return images.subset(spread(len(images), count), name=f"{count} of {images.name}")


def _teacher_accuracy(network: SplitNetwork, images: ImageSet) -> float:
    teacher = network.materialise_teacher()
    with torch.no_grad():
        logits = [teacher(batch) for batch in torch.split(torch.from_numpy(images.images), _BATCH)]
    return accuracy(torch.cat(logits).numpy(), images.labels)


def _test_facts(network: SplitNetwork, networks: BundleNetworks, test: ImageSet) -> dict[str, str]:
    widest = networks.tail.run(networks.heads[-1].run(test.images))
    return {
        "test_set": f"{test.name}, {len(test)} images",
        "test_teacher_accuracy": f"{_teacher_accuracy(network, test):.4f}",
        "test_widest_accuracy": f"{accuracy(widest, test.labels):.4f}",
    }


def _provenance(network: SplitNetwork, facts: Mapping[str, str], fitting: ImageSet) -> dict[str, str]:
    config = network.config
    return {
        **{f"train_{key}": str(value) for key, value in facts.items()},
        "model": config.model,
        "cut": config.cut,
        "teacher_digest": config.teacher_digest,
        "tables_fitted_on": f"{fitting.name}, {len(fitting)} images",
        "isthmus": __version__,
        "torch": str(torch.__version__),
        "onnx": version("onnx"),
        "onnxruntime": version("onnxruntime"),
    }
