"""`overhead` and `batching` run with our own servers alone, and their arithmetic is right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.cli import run
from isthmus.cli.bench import benchmark_folder, load_benchmark
from isthmus.runtime.errors import BackendError, NetworkError


@pytest.fixture(scope="module")
def load() -> ModuleType:
    load_benchmark(benchmark_folder(), "batching")
    return sys.modules["_peers.load"]


@pytest.fixture(scope="module")
def stages() -> ModuleType:
    load_benchmark(benchmark_folder(), "overhead")
    return sys.modules["_peers.stages"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a benchmark quickly, without the servers of other makers."""
    monkeypatch.setenv("ISTHMUS_PEERS", str(tmp_path / "none"))

    def call(*arguments: object) -> dict[str, Any]:
        file = tmp_path / "figures.json"
        assert run(["bench", *map(str, arguments), "--quick", "--json", str(file)]) == 0
        result: dict[str, Any] = json.loads(file.read_text())
        return result

    return call


def test_overhead(bench: Any) -> None:
    result = bench("overhead")
    figures, ratios = result["figures"], result["ratios"]
    assert figures["missing"] == "triton, mlserver"
    assert set(figures["sizes"]) == {"300_bytes", "100000_bytes"}
    for size, figure in figures["sizes"].items():
        trips = figure["round_trip"]
        roads = ("tcp", "tcp_echo", "grpc", "grpc_plain", "ours", "ours_latent", "ours_mtls")
        assert set(trips) == {f"{road}_s" for road in roads}
        assert all(0 < trip["median"] <= trip["p90"] <= trip["p99"] for trip in trips.values())
        assert ratios[size]["over_tcp"]["ours"] == pytest.approx(
            trips["ours_s"]["median"] / trips["tcp_s"]["median"]
        )
        # The stages are the whole way, each but "decode", which lies within another, counted once.
        parts = {stage: spread["mean"] for stage, spread in figure["stages"].items()}
        total_s, decode_s = parts.pop("total_s"), parts.pop("decode_s")
        assert sum(parts.values()) == pytest.approx(total_s)
        assert 0 < decode_s <= parts["check_and_decode_s"]
        assert all(seconds >= 0 for seconds in parts.values())


@pytest.mark.parametrize("arguments", [["overhead", "--pin", "sideways"], ["batching", "--tails", "none"]])
def test_unknown_choices(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments, "--quick"]) == 3
    assert "give" in capsys.readouterr().err


def test_batching_without_its_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "batching", "--tails", "cifar", "--cifar", str(tmp_path / "none"), "--quick"]) == 3
    assert "no bundle for cifar" in capsys.readouterr().err


def test_batching(bench: Any, tiny_bundle: Path) -> None:
    result = bench("batching", "--tails", "cifar", "--cifar", tiny_bundle)
    figures, ratios = result["figures"]["tails"]["cifar"], result["ratios"]["cifar"]
    assert result["figures"]["missing"] == "triton, mlserver, litserve"
    assert set(figures["closed"]) == {"ours", "ours_latent"}
    assert set(figures["mixed"]) == {"point_0", "point_1", "point_2", "all_points"}
    for road, cells in figures["closed"].items():
        for streams, cell in cells.items():
            assert cell["refused"] == 0
            assert ratios["share_of_offline"][road][streams] == pytest.approx(
                cell["frames_per_s"]["median"] / figures["offline"]["ours"]["best_frames_per_s"]
            )
    for cell in figures["open"].values():
        assert cell["frames"] > 0
        assert cell["refused"] == 0
        # No server is faster than one that does nothing but compute.
        assert cell["p99_s"] > cell["ideal_p99_s"] / 2
    assert ratios["p99_over_single"]["ours"] > 0


def test_a_frame_that_meets_nobody_takes_its_batch(load: ModuleType) -> None:
    arrivals_s = np.array([0.0, 1.0, 2.0])
    assert load.ideal_latency_s(arrivals_s, lambda rows: 0.1 * rows, max_batch=8) == pytest.approx([0.1] * 3)


def test_who_waits_goes_along(load: ModuleType) -> None:
    # The second and third arrive while the first is computed, and are computed together after it.
    arrivals_s = np.array([0.0, 0.2, 0.6])
    found = load.ideal_latency_s(arrivals_s, lambda rows: 1.0 + rows, max_batch=8)
    assert found == pytest.approx([2.0, 2.0 + 3.0 - 0.2, 2.0 + 3.0 - 0.6])


@pytest.fixture
def contest(load: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A contest of our server and Triton's, whose processes are made up: `exit_code` says how they fare."""
    module = sys.modules["_peers.contest"]

    def server(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(exit_code=None, end=lambda: None, paused=contextlib.nullcontext)

    monkeypatch.setattr(module, "servers", SimpleNamespace(ours=server, triton=server))
    monkeypatch.setattr(module, "Offline", lambda *_, **__: SimpleNamespace(end=lambda: None))
    monkeypatch.setattr(module, "environment", lambda name: tmp_path if name == "triton" else None)
    monkeypatch.setattr(module, "_KNOWN_AFTER_S", 0.0)
    how = module.Computing(
        backend="onnxruntime", provider="cpu", precision="float32", max_batch=8, threads=1, cores=None
    )
    tail = SimpleNamespace(bundle=SimpleNamespace(root=tmp_path), onnx=tmp_path / "tail.onnx")
    with contextlib.ExitStack() as stack:
        yield module.Contest(tail, how, tmp_path, stack)


async def test_a_peer_that_keeps_crashing_is_left_out(contest: Any) -> None:
    turns = []

    async def load(server: Any) -> str:
        turns.append(server)
        server.exit_code = -11
        raise NetworkError("the connection broke")

    assert contest.roads == ("ours", "ours_latent", "triton")
    assert await contest.loaded("triton", load) is None
    assert len(set(map(id, turns))) == len(turns) == contest.crashes["triton"] == 3
    assert contest.roads == ("ours", "ours_latent")


async def test_a_peer_that_crashes_once_has_another_turn(contest: Any) -> None:
    async def load(server: Any) -> str:
        if not contest.crashes["triton"]:
            server.exit_code = -11
            raise NetworkError("the connection broke")
        return "measured"

    assert await contest.loaded("triton", load) == "measured"
    assert contest.roads == ("ours", "ours_latent", "triton")


@pytest.mark.parametrize(("road", "exit_code"), [("ours", -11), ("triton", None)])
async def test_a_lost_connection_without_a_crash_of_a_peer_ends_the_run(
    contest: Any, road: str, exit_code: int | None
) -> None:
    async def load(server: Any) -> None:
        server.exit_code = exit_code
        raise NetworkError("the connection broke")

    with pytest.raises(BackendError, match=f"{road}: the connection broke"):
        await contest.loaded(road, load)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=40),
    st.floats(0.001, 0.5),
    st.floats(0, 0.5),
    st.integers(1, 8),
)
def test_an_ideal_server_keeps_its_order_and_its_batches(
    load: ModuleType, arrivals: list[float], slope_s: float, base_s: float, max_batch: int
) -> None:
    arrivals_s = np.sort(np.array(arrivals))
    latency_s = load.ideal_latency_s(arrivals_s, lambda rows: slope_s * rows + base_s, max_batch=max_batch)
    ends_s = arrivals_s + latency_s
    assert np.all(np.diff(ends_s) >= -1e-9)
    assert np.all(latency_s >= slope_s + base_s - 1e-9)
    _, sizes = np.unique(np.round(ends_s, 9), return_counts=True)
    assert sizes.max() <= max_batch


def test_answers_in_batches_have_the_rate_of_the_batches(load: ModuleType) -> None:
    # Eight at once, every second: whatever stretch of whole seconds or not is looked at.
    times_s = np.repeat(np.arange(1.0, 11.0), 8) + np.tile(np.arange(8) * 1e-6, 10)
    for begin_s, end_s in ((2.5, 5.5), (2.1, 5.9), (2.9, 7.05)):
        assert load.answer_rate(times_s, begin_s, end_s) == pytest.approx(8.0, rel=1e-4)
    assert load.answer_rate(times_s, 3.1, 3.9) == 0.0


@pytest.mark.parametrize(("exchanges", "broken"), [(1, False), (0, True)])
async def test_a_connection_that_was_hung_up_on_is_opened_again(
    exchanges: int, broken: bool, load: ModuleType
) -> None:
    lines = sys.modules["_peers.lines"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(exchanges):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + np.float32([1, 2]).tobytes())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    line = lines.HttpLine(
        server.sockets[0].getsockname()[1], SimpleNamespace(latents_nchw=np.zeros((1, 2, 2, 2), np.uint8))
    )
    try:
        for frame in range(3):
            if broken:
                with pytest.raises(NetworkError, match="the connection broke"):
                    await line.ask(frame)
            else:
                assert (await line.ask(frame)).tolist() == [[1, 2]]
    finally:
        await line.close()
        server.close()


def test_poisson_arrivals_have_their_rate(load: ModuleType) -> None:
    arrivals_s = load.poisson(200.0, 50.0, 1)
    assert len(arrivals_s) == pytest.approx(10_000, rel=0.05)
    assert np.all(np.diff(arrivals_s) >= 0)
    assert np.std(np.diff(arrivals_s)) == pytest.approx(1 / 200, rel=0.1)


def test_stages_leave_the_first_frames_out(stages: ModuleType) -> None:
    order = ["begin", "built", "serialise", "serialised", "parse", "parsed", "received", "decoded", "started"]
    order += ["computed", "ended", "write", "written", "client_parse", "client_parsed", "end"]
    marks = {name: 1000 * index for index, name in enumerate(order)}
    late = {name: 2 * value for name, value in marks.items()}
    server = {"1": {**late, "decode": 0}, "2": {**marks, "decode": 500}}
    table = stages.stage_table({"1": late, "2": marks}, server, skipped=1)
    assert table["total_s"]["median"] == pytest.approx(15e-6)
    assert table["decode_s"]["median"] == pytest.approx(0.5e-6)
    rest = [table[name]["median"] for name in table if name not in ("total_s", "decode_s")]
    assert rest == pytest.approx([1e-6] * 15)
