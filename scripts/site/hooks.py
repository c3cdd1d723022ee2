"""What MkDocs asks while it builds: pages made from the code, from figures, and the repository's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent)]
# A page must not depend on the terminal that it was made in.
os.environ["COLUMNS"] = "80"

import event_page  # noqa: E402
from adopted_pages import adopted_pages  # noqa: E402, beside this file
from cli_pages import cli_nav, cli_pages  # noqa: E402
from figure_pages import figure_nav, figure_pages, result_pictures  # noqa: E402
from pictures import drawn  # noqa: E402


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are made into the navigation, where it says `generated-…`."""
    made = {
        "generated-cli": cli_nav(),
        "generated-figures": figure_nav(ROOT),
        "generated-exit-codes": "reference/exit-codes.md",
        "generated-events": event_page.PLACE,
        "generated-architecture": "reference/architecture.md",
        "generated-changelog": "reference/changelog.md",
        "generated-contributing": "reference/contributing.md",
    }
    config.nav = _filled(config.nav, made)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the pictures that results come with."""
    pages = {
        **cli_pages(),
        **figure_pages(ROOT),
        **adopted_pages(ROOT),
        event_page.PLACE: event_page.event_page(),
    }
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    for name, svg in drawn().items():
        files.append(File.generated(config, f"pictures/{name}", content=svg))
    for picture in result_pictures(ROOT):
        files.append(File.generated(config, f"figures/{picture.name}", abs_src_path=str(picture)))
    return files


def _filled(nav: Any, made: dict[str, Any]) -> Any:
    if isinstance(nav, list):
        return [_filled(item, made) for item in nav]
    if isinstance(nav, dict):
        return {title: _filled(item, made) for title, item in nav.items()}
    return made.get(nav, nav)
