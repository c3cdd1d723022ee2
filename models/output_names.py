"""What the outputs of a network are called, and what an image is worth whose class none of them is.

A network of a thousand outputs may be cut for images of ten classes: distillation needs no label. Where the
classes are among the outputs' names, an answer is right as ever. Where they are not, what can be measured is
how often the cut network answers as the uncut one does; the set's name then says so, wherever it is told.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from isthmus.models.backbones import MODELS
from isthmus.models.config import SplitConfig
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError

AGREEMENT = "agreement with the uncut network"
_BATCH = 64


def output_names(given: str | None, ref: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the name of every output of the network `ref`.

    Args:
        given: None: the images' `classes`; a number: so many, named by their index; otherwise a file: a name
            per line, or `name,index` in a CSV file with a header, where others are named by their index.
        ref: The network; its published number of outputs is that of a CSV file's names.
        classes: Class names of the images.

    Raises:
        InputError: If the file cannot be read or names an output that there is not.
    """
    if given is None:
        return tuple(classes)
    if given.isdecimal():
        return tuple(str(index) for index in range(int(given)))
    file = Path(given).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: {reason}; give --outputs NUMBER or a file of their names") from None
    if file.suffix.lower() != ".csv":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    rows = [row for row in list(csv.reader(text.splitlines()))[1:] if row]
    if not rows or any(len(row) < 2 or not row[1].strip().isdecimal() for row in rows):
        raise InputError(f"{file}: give a header and lines of name,index")
    named = {int(row[1]): row[0].strip() for row in rows}
    count = MODELS[ref].num_classes if ref in MODELS else max(named) + 1
    if max(named) >= count:
        raise InputError(f"{file}: names output {max(named)}, {ref} has {count}")
    return tuple(named.get(index, str(index)) for index in range(count))


def check_images(config: SplitConfig, images: ImageSet) -> None:
    """Refuse `images` that the network does not take, or whose classes are others than its own.

    Fewer classes, none of them the network's, are no mistake: `labelled_for` says what is measured then.

    Raises:
        InputError: If they do not fit.
    """
    named = images.with_classes(config.labels)
    shape = (config.input_height, config.input_width, config.input_channels)
    named.check_fits(shape, named.classes if _without_truth(named, config) else config.labels)


def labelled_for(network: SplitNetwork, images: ImageSet) -> ImageSet:
    """Return `images` with labels that the network's outputs can be compared with.

    Those are their own; or, if they have fewer classes than the network has outputs, none of them its own,
    the uncut network's answers, and the set's name then ends in `AGREEMENT`.
    """
    named = images.with_classes(network.config.labels)
    if not _without_truth(named, network.config):
        return named
    device = next(network.parameters()).device
    with torch.no_grad():
        answers = [
            network.teacher(network.normalise(batch.to(device))).argmax(1).cpu()
            for batch in torch.split(torch.from_numpy(images.images), _BATCH)
        ]
    return ImageSet(
        images=images.images,
        labels=torch.cat(answers).numpy(),
        classes=network.config.labels,
        name=f"{images.name}, {AGREEMENT}",
    )


def _without_truth(images: ImageSet, config: SplitConfig) -> bool:
    numbered = tuple(str(number) for number in range(len(images.classes)))
    known = config.labels[: len(images.classes)]
    return len(images.classes) < len(config.labels) and images.classes not in (numbered, known)
