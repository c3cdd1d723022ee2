"""Dashboard and reports have the same colours, and the page needs nothing but its own files."""

import re
from importlib.resources import files

import pytest

theme = pytest.importorskip("isthmus.report.theme")


def test_the_pages_colours_are_those_of_reports():
    css = files("isthmus.dashboard").joinpath("static/dashboard.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    for part, index in ((light, 0), (dark, 1)):
        said = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", part))
        assert said.pop("wash")  # the page's own
        assert {name: theme.COLOURS[name][index] for name in said} == said
        assert len(said) >= 24


def test_every_module_of_the_page_is_there_and_needs_no_other():
    folder = files("isthmus.dashboard").joinpath("static")
    names = {entry.name for entry in folder.iterdir()}
    for name in (name for name in names if name.endswith(".js")):
        text = folder.joinpath(name).read_text()
        assert set(re.findall(r"""from "\./([a-z]+\.js)\"""", text)) <= names
        assert "innerHTML" not in text
        assert not re.search(r"https?://(?!www\.w3\.org/)", text)
