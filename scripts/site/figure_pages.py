"""Pages of the stored results of benchmarks: each figure with its spread, its command and its machine.

Shows what `isthmus bench` wrote, nothing rounded away and nothing left out; which of it matters is said by
the table in README.md, which opens the section.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adopted_pages import PAGES, section, turn_links, zoo_cards

from isthmus.cli._figures import figure_rows

FOLDER = "figures"
_PLACES = {
    "benchmarks/METHODOLOGY.md": f"{FOLDER}/methodology.md",
    "benchmarks/results/cifar10-resnet56.md": f"{FOLDER}/cifar10-step-by-step.md",
    "benchmarks/results": f"{FOLDER}/index.md",
}
# Results were stored on machines whose folders are nobody else's business.
_DATA_FOLDER = re.compile(r"(?<![\w.])/[\w./-]*?/data/")


def figure_pages(root: Path) -> dict[str, str]:
    """Return the pages by their place in the site, the overview first."""
    results = stored_results(root)
    pages = {f"{FOLDER}/index.md": _overview(root, results)}
    for name, record in results.items():
        pages[f"{FOLDER}/{name}.md"] = _DATA_FOLDER.sub("$D/", "\n".join(_page(name, record)))
    return pages


def figure_nav(root: Path) -> list[Any]:
    """Return the section's entries."""
    extra = [page for page in PAGES.values() if page.startswith(FOLDER)]
    cards = zoo_cards(root).values()
    return [f"{FOLDER}/index.md", *extra, *cards, *(f"{FOLDER}/{name}.md" for name in stored_results(root))]


def stored_results(root: Path) -> dict[str, dict[str, Any]]:
    """Return the records of benchmarks/results by the name of their file."""
    files = sorted((root / "benchmarks" / "results").glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def result_pictures(root: Path) -> list[Path]:
    """Return the pictures that results come with."""
    return sorted((root / "benchmarks" / "results").glob("*.png"))


def _overview(root: Path, results: Mapping[str, Mapping[str, Any]]) -> str:
    readme = (root / "README.md").read_text(encoding="utf-8")
    page = f"{FOLDER}/index.md"
    pictures = {f"benchmarks/results/{file.name}": f"{FOLDER}/{file.name}" for file in result_pictures(root)}
    places = {**_PLACES, **pictures}
    told = turn_links(section(readme, "Figures"), source="README.md", page=page, pages=places)
    rows = [
        f"| [{name}]({name}.md) | {record['date'][:10]} | {_host(record)} | `{_command(record)}` |"
        for name, record in results.items()
    ]
    return "\n".join(
        [
            "# Figures",
            "",
            told,
            "## Stored results",
            "",
            "Each file of `benchmarks/results`, whole. `$D` stands for the folder of the data. A commit that "
            "ends in `-modified` means that files differed from it.",
            "",
            "| result | date | machine | command |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _page(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    yield from (f"# {name}", "", "```bash", _command(record), "```", "")
    yield f"{record['date'][:10]}, {record['duration_s']:.0f} s; {_host(record)}; {versions}."
    if (record["host"].get("load_average") or 0) > 0.25 * (record["host"].get("usable_cores") or 1):
        yield ""
        yield (
            f"!!! warning\n    The machine was busy (load average {record['host']['load_average']}): "
            "times are too long, ratios of interleaved rounds remain usable."
        )
    for part in ("ratios", "figures"):
        if not record[part]:
            continue
        yield from ("", f"## {part.capitalize()}", "")
        yield from ("| | value | spread |", "|---|---:|---|")
        for depth, label, value, spread in figure_rows(record[part]):
            indent = "&emsp;" * depth
            yield f"| {indent}{_cell(label)} | {_cell(value)} | {_cell(spread)} |"
    yield ""


def _command(record: Mapping[str, Any]) -> str:
    return _DATA_FOLDER.sub("$D/", str(record["command"]))


def _host(record: Mapping[str, Any]) -> str:
    host = record["host"]
    return f"{host['cpu'] or host['architecture']}, {host['usable_cores']} cores"


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_\[\]`])", r"\\\1", text)
