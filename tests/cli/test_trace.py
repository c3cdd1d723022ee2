"""`isthmus trace` on the command line."""

import importlib.util
import json

import pytest

from isthmus.cli import run
from isthmus.runtime.links import load_trace


@pytest.fixture
def call(capsys):
    def invoke(*arguments):
        code = run(["trace", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return invoke


def test_info_is_what_is_meant_without_a_command(call):
    code, told, _ = call("step:20kB@5s,0B@3s")
    assert code == 0
    assert "duration     8 s" in told
    assert "mean         12.5 kB/s (0.1 Mbit/s)" in told
    assert "empty bins   37.5%" in told
    assert "outages      1 of 100 ms or more, longest 3 s" in told
    assert all(len(line) <= 80 for line in told.splitlines())


def test_info_as_json(call):
    code, told, _ = call("info", "constant:8kbit", "--json")
    assert code == 0
    facts = json.loads(told)
    assert (facts["mean_rate"], facts["quantiles"]["p50"], facts["longest_outage_s"]) == (1000.0, 1000.0, 0)


@pytest.mark.parametrize("form", ["columns", "json", "mahimahi"])
def test_a_converted_trace_reads_back(call, tmp_path, form):
    file = tmp_path / "out.trace"
    code, told, _ = call("convert", "step:150kB@2s,300kB@1s", "--to", form, "--out", file)
    assert code == 0
    assert told.startswith(str(file))
    assert load_trace(str(file)).mean_rate == pytest.approx(200_000, rel=0.01)


def test_generate_gives_the_same_trace_for_the_same_seed(call, tmp_path):
    texts = []
    for index, seed in enumerate((3, 3, 4)):
        file = tmp_path / f"{index}.trace"
        assert call("generate", f"markov:20kB@2s,0B@500ms,seed={seed},for=30s", "-o", file)[0] == 0
        texts.append(file.read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra 'plot'")
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot_draws_a_picture(call, tmp_path, suffix):
    file = tmp_path / f"link.{suffix}"
    code, told, _ = call("plot", "outage", "--out", file)
    assert (code, told.strip()) == (0, str(file))
    start = file.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nosuch"], 3, "trace 'nosuch'"),
        (["convert", "outage", "--out", "OUT", "--to", "xml"], 3, "--to 'xml': give columns"),
        (["convert", "constant:0B", "--out", "OUT", "--to", "mahimahi"], 3, "0 packets"),
        (["convert", "outage", "--out", "OUT/no/file"], 3, "choose another file"),
        (["generate", "some.file", "--out", "OUT"], 3, "'some.file' is no generator"),
        (["plot", "outage", "--out", "OUT.gif"], 3, "ends in .png"),
        (["convert", "outage"], 2, "--out"),
    ],
)
def test_bad_input_is_one_line_and_its_exit_code(call, tmp_path, arguments, code, message):
    actual, _, errors = call(*(argument.replace("OUT", str(tmp_path / "out")) for argument in arguments))
    assert actual == code
    assert message in errors
    assert "Traceback" not in errors


def test_without_matplotlib_the_extra_is_named(call, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.delitem(sys.modules, name)
    code, _, errors = call("plot", "outage", "--out", tmp_path / "x.png")
    assert code == 6
    assert "isthmus[plot]" in errors
