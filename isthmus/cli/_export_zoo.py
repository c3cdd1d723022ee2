"""`isthmus export --zoo` and `--to-zoo`: from an entry of the zoo, and from a checkpoint to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import out
from isthmus.cli._zoo_card import Storage, card
from isthmus.runtime.errors import InputError

if TYPE_CHECKING:
    from isthmus.models.network import SplitNetwork
    from isthmus.runtime.bundle import Bundle
    from isthmus.runtime.datasets import ImageSet

_COMPARED_IMAGES = 256

ZooFlag = Annotated[
    str | None,
    typer.Option(
        "--zoo",
        help="Instead of a checkpoint: a trained bottleneck that comes with the package, by name, or the "
        "folder of one. Needs --weights.",
    ),
]
ToZooFlag = Annotated[
    Path | None,
    typer.Option(
        "--to-zoo",
        help="Also write the bottleneck, without the uncut network's weights, as a zoo entry into this "
        "folder. The bundle is then made from the entry, as everyone else will make it. Needs --weights.",
    ),
]
NotesFlag = Annotated[
    Path | None,
    typer.Option("--notes", help="Markdown for the entry's card: data, licences, recipe, limits."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the network comes from, as the flags say."""

    checkpoint: Path | None
    zoo: str | None
    to_zoo: Path | None
    weights: Path | None

    def load(self) -> tuple[SplitNetwork, dict[str, str]]:
        """Return the network and its facts.

        Raises:
            InputError: If the flags contradict each other, or what they name cannot be used.
            ArtifactError: If it is damaged, or the weights are another network's.
        """
        from isthmus.models.checkpoint import CHECKPOINT_NAME, load_checkpoint, read_checkpoint
        from isthmus.models.zoo import load_entry

        if (self.zoo is not None or self.to_zoo is not None) and self.weights is None:
            raise InputError(
                f"{self.zoo or self.to_zoo}: zoo entries leave out the uncut network; give --weights FILE"
            )
        if self.zoo is not None and self.weights is not None:
            return load_entry(self.zoo, weights=self.weights)
        assert self.checkpoint is not None
        path = self.checkpoint
        file = path / CHECKPOINT_NAME if path.is_dir() else path
        return load_checkpoint(file, weights=self.weights), read_checkpoint(file)["facts"]


def read_notes(notes: Path | None, to_zoo: Path | None) -> str:
    """Return the text for an entry's card; it is read before anything that takes long.

    Raises:
        InputError: If no entry is asked for, or the file cannot be read.
    """
    if notes is None:
        return ""
    if to_zoo is None:
        raise InputError(f"--notes {notes}: they are for the card of a zoo entry; give --to-zoo DIR too")
    try:
        return notes.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{notes}: {getattr(error, 'strerror', None) or error}; give another file") from None


def through_entry(
    network: SplitNetwork, facts: Mapping[str, str], folder: Path, weights: Path, images: ImageSet
) -> tuple[SplitNetwork, dict[str, str], Storage]:
    """Write `network` as an entry into `folder`; return what is rebuilt from it, and what rounding changed.

    Raises:
        InputError: If it cannot be an entry.
    """
    import torch

    from isthmus.models.zoo import load_entry, write_entry
    from isthmus.runtime.datasets import spread

    size = write_entry(network, folder, facts=facts)
    rebuilt, kept = load_entry(str(folder), weights=weights)
    sample = torch.from_numpy(images.images[spread(len(images), _COMPARED_IMAGES)])
    widest = len(network.config.widths) - 1
    (codes, answers), (new_codes, new_answers) = (
        (latent, one.logits(latent).argmax(1))
        for one in (network, rebuilt)
        for latent in (one.codes(sample, widest),)
    )
    storage = Storage(
        weights_bytes=size,
        codes_changed=float((codes != new_codes).float().mean()),
        answers_changed=float((answers != new_answers).float().mean()),
        images=len(sample),
    )
    return rebuilt, kept, storage


def write_card(
    folder: Path,
    network: SplitNetwork,
    facts: Mapping[str, str],
    bundle: Bundle,
    storage: Storage,
    *,
    test: ImageSet | None,
    notes: str,
) -> None:
    """Write the card of the entry in `folder`.

    Raises:
        InputError: If the card cannot be written.
    """
    from isthmus.models.output_names import labelled_for
    from isthmus.models.zoo.entry import CARD

    file = folder / CARD
    compared = None if test is None else labelled_for(network, test)
    written = card(folder.name, network.config, facts, bundle, storage, test=compared, notes=notes)
    try:
        file.write_text(written, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; choose another --to-zoo") from None


def print_entry(folder: Path, storage: Storage) -> None:
    """Say what was written and what rounding changed."""
    out.print(f"{folder}: {storage.weights_bytes / 1e6:.2f} MB of tensors; {storage}", soft_wrap=True)
