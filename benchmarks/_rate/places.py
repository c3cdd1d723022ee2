"""Where `rate_accuracy` finds its bundles, which of them are not compared, and where its table goes."""

from __future__ import annotations

from pathlib import Path

from _networks import ROOT

from isthmus.runtime.bundle import MANIFEST, Bundle, load_bundle
from isthmus.runtime.errors import InputError

# The folders of our networks of an equal budget: as many images as each network of one width saw, and as many
# as all of them together.
SHORT, TOTAL = "slim-short", "slim-total"
# What `scripts/train-comparison` changes in ours, and in which of them. Another folder beside them is left
# over from an older comparison: what it changed, it changed in another network.
ABLATIONS = {
    "no-nested-dropout": SHORT,
    "no-rate-term": SHORT,
    "delayed-shrinking": SHORT,
    "alpha-divergence": SHORT,
    "no-calibration": SHORT,
    "half-images": TOTAL,
}


def bundles_in(folder: Path) -> list[Bundle]:
    """Return the bundle at `folder`, or those in it.

    Raises:
        BundleError: If one cannot be verified.
    """
    if (folder / MANIFEST).is_file():
        return [load_bundle(folder)]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [load_bundle(path) for path in inside if (path / MANIFEST).is_file()]


def ablations_in(folder: Path) -> tuple[dict[str, Bundle], list[str]]:
    """Return the bundles of ours with one part changed, by name, and the other folders beside them.

    Raises:
        BundleError: If one of those bundles cannot be verified.
    """
    others = [path.name for path in sorted(folder.iterdir())] if folder.is_dir() else []
    found = {name: bundles_in(folder / name) for name in ABLATIONS}
    left_out = [f"{folder.name}/{name}" for name in others if name not in ABLATIONS]
    return {name: bundles[0] for name, bundles in found.items() if bundles}, left_out


def table_file(task: str, table: str | None, *, kept: bool) -> Path | None:
    """Return the file of the table; None if there shall be none.

    Args:
        task: Its name is part of the usual file's, which is tracked.
        table: What was asked for; None for the usual file, "none" for none.
        kept: Whether the figures are worth the usual file's place: without, they go where they are told to.

    Raises:
        InputError: If nothing can be written there: to be known before an hour of measuring.
    """
    if table == "none" or (table is None and not kept):
        return None
    file = Path(table or ROOT / "benchmarks" / "results" / f"rate_accuracy-{task}.md")
    if file.is_dir() or not file.parent.is_dir():
        reason = "is a folder" if file.is_dir() else "its folder does not exist"
        raise InputError(f"{file}: {reason}; give another --table FILE, or --table none")
    return file
