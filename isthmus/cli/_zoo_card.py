"""The card of a zoo entry: what it is, how it was trained, and figures measured on the bundle made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isthmus.report.statistics import share

if TYPE_CHECKING:
    from isthmus.models.config import SplitConfig
    from isthmus.runtime.bundle import Bundle
    from isthmus.runtime.datasets import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What storing a network as an entry took and changed.

    Attributes:
        weights_bytes: Bytes of its tensors.
        codes_changed: Share of the widest head's codes that rounding changed.
        answers_changed: Share of images that then get another answer.
        images: How many were compared.
    """

    weights_bytes: int
    codes_changed: float
    answers_changed: float
    images: int

    def __str__(self) -> str:
        return (
            f"stored in 16 and 8 bits, which changes {self.codes_changed:.2%} of the codes of the widest "
            f"head, and the answers to {self.answers_changed:.2%} of {self.images} images"
        )


def card(
    name: str,
    config: SplitConfig,
    facts: Mapping[str, str],
    bundle: Bundle,
    storage: Storage,
    *,
    test: ImageSet | None,
    notes: str,
) -> str:
    """Return the card as Markdown.

    Args:
        name: Of the entry.
        config: What the network is made of.
        facts: How it was trained.
        bundle: Made from the entry.
        storage: What storing it took.
        test: Images for the figures; without them, those are the utilities of the bundle.
        notes: Written by hand: data, licences, recipe, limits.
    """
    tail = ", and the difference of the tuned tail" if config.tail_tuned else ""
    answer = ", early exit" if config.exit_channels else ""
    lines = [
        f"# {name}",
        "",
        f"Family `{config.family}` for `{config.model}`, cut at `{config.cut}`: encoder, quantiser, "
        f"decoder{answer}{tail}. The weights of the uncut network are not part of it: theirs have the digest "
        f"`{config.teacher_digest}`.",
        "",
        "```",
        f"isthmus export --zoo {name} --weights FILE --dataset SPEC --out DIR",
        "```",
        "",
        f"{storage.weights_bytes:,} bytes of tensors, {storage}.",
        "",
        "## Figures",
        "",
        *_figures(bundle, test),
        "",
        "## Training",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
    ]
    if notes.strip():
        lines += ["", notes.strip()]
    return "\n".join(lines) + "\n"


def _figures(bundle: Bundle, test: ImageSet | None) -> list[str]:
    points, facts = bundle.points, bundle.manifest.provenance
    scores = [f"{record.utility:.1%}" for record in points.records] if test is None else _scores(bundle, test)
    rows = [
        f"| {bundle.manifest.widths[record.point.width_index]:g} | {record.point.channels} | {score} | "
        f"{record.bytes_mean:.0f} | {record.bytes_p95:.0f} | {record.head_s * 1e3:.2f} |"
        for record, score in zip(points.records, scores, strict=True)
    ]
    images = points.measured_on if test is None else f"{test.name}, {len(test)} images, 95 % Wilson intervals"
    teacher = f"{points.teacher_utility:.1%} on {points.measured_on}"
    if test is not None:
        teacher = f"{float(facts['test_teacher_accuracy']):.1%}"
    heads = [f"- {choice}" for choice in facts.get("heads", "").split("; ") if choice]
    return [
        f"Accuracy on {images}; the uncut network: {teacher}. Bytes of payloads on {points.measured_on}; "
        f"times on {points.host}. Measured on the bundle made from this entry.",
        "",
        "| width | channels | accuracy | bytes | 95 % below | head, ms |",
        "|---|---|---|---|---|---|",
        *rows,
        *(["", "Heads:", "", *heads] if heads else []),
    ]


def _scores(bundle: Bundle, test: ImageSet) -> list[str]:
    """Return the accuracy of every point on `test`, with its interval."""
    from isthmus.runtime.bundle.networks import open_networks, with_absent

    manifest = bundle.manifest
    networks = open_networks(manifest, manifest.files, bundle.read)
    latents = [head.run(test.images) for head in networks.heads]
    scores = []
    for record in bundle.points.records:
        sent = with_absent(
            latents[record.point.width_index], record.point.channels, manifest.latent.zero_points
        )
        right = int(np.sum(networks.tail.run(sent).argmax(axis=1) == test.labels))
        found = share(right, len(test))
        assert found is not None, "a set of images is never empty"
        scores.append(f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})")
    return scores
