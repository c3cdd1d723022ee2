"""Every metric that the Grafana dashboard names is on the page of a real server that has answered frames."""

import json
import re
import urllib.request
from importlib.resources import files

import pytest

from isthmus.cli import run

pytest.importorskip("prometheus_client", reason="needs the extra 'server'")


@pytest.fixture(scope="module")
def board():
    return json.loads(files("isthmus.dashboard").joinpath("grafana.json").read_text())


def test_every_metric_it_names_exists(board, tiny_bundle):
    from isthmus.cli._processes import Children
    from isthmus.dashboard.servers import parse_page

    with Children() as children:
        serve = ["serve", str(tiny_bundle), "--port", "0", "--metrics-port", "0", "--threads", "1", "--json"]
        ready = children.start_service(serve)
        agent = ["agent", str(tiny_bundle), "--server", f"127.0.0.1:{ready['port']}", "--source", "synthetic"]
        assert (
            children.run(
                [*agent, "--policy", "fixed:0,2", "--fps", "20", "--frames", "40", "--deadline", "1s"]
            )
            == 0
        )
        page = urllib.request.urlopen(f"http://127.0.0.1:{ready['metrics_port']}/metrics", timeout=30).read()
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in board["templating"]["list"]]
    named = {name for text in queries for name in re.findall(r"isthmus_[a-z_]+", text)}
    assert len(named) == 9
    assert named <= parse_page(page.decode()).keys()


def test_panels_have_places_of_their_own(board):
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_command_writes_it(board, tmp_path, capsys):
    assert run(["dashboard", "grafana", "--out", str(tmp_path / "board.json")]) == 0
    assert json.loads((tmp_path / "board.json").read_text()) == board
    capsys.readouterr()
    assert run(["dashboard", "grafana"]) == 0
    assert json.loads(capsys.readouterr().out) == board
    assert run(["dashboard", "grafana", "--out", str(tmp_path / "no" / "x")]) == 3
