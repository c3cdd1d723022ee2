"""What `isthmus simulate --out` leaves: CSV, JSON, plots and event logs."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import isthmus
from isthmus.cli._common import console
from isthmus.cli._simulate_worlds import Subject
from isthmus.runtime.errors import InputError
from isthmus.runtime.simulation import DeviceWorld, Outcome, Row, run_logged, sweep_policy


def write_device(
    folder: Path,
    subject: Subject,
    worlds: Sequence[DeviceWorld],
    policies: Sequence[str],
    outcomes: Sequence[Outcome],
    table: Sequence[Row],
    *,
    objective: str = "accuracy",
) -> list[Path]:
    """Write runs.csv, rows.json, regret.svg and one event log per cell's first seed; return the files.

    Raises:
        InputError: If the folder cannot be written.
    """
    make_folder(folder)
    runs = [{**asdict(outcome), "regret": outcome.regret} for outcome in outcomes]
    files = [
        write_csv(folder / "runs.csv", runs),
        write_json(folder / "rows.json", [asdict(r) for r in table]),
    ]
    from isthmus.cli._simulate_plots import plot_device

    files += plotted(plot_device, table, folder / "regret.svg")
    bundle = subject.bundle
    for world in worlds:
        for policy in policies:
            where = (
                folder
                / "logs"
                / _slug(f"{Path(world.trace.name).name}-{policy}-{world.deadline_s * 1e3:g}ms")
            )
            make_folder(where)
            run_logged(
                world,
                sweep_policy(policy, world, objective),
                where / "events.jsonl",
                bundle=subject.name,
                bundle_digest=bundle.digest if bundle else "",
                widths=bundle.manifest.widths if bundle else (),
                version=isthmus.__version__,
            )
            files.append(where / "events.jsonl")
    return files


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it.

    Raises:
        InputError: If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; choose another --out") from None


def write_csv(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write one line per row under a line of names."""
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_json(file: Path, content: Any) -> Path:
    """Write `content` as JSON."""
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return file


def plotted(draw: Any, *arguments: Any) -> list[Path]:
    """Return the file that `draw` makes; none, and a word about it, without matplotlib."""
    try:
        return [draw(*arguments)]
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        console.print("no plots without matplotlib: pip install 'isthmus[plot]'", markup=False)
        return []


def _slug(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-.," else "-" for character in text)
