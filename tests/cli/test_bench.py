import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.cli import bench
from isthmus.cli import run as run_cli
from isthmus.cli._figures import check_result, figure_table, flatten
from isthmus.cli._host import Host, read_host, read_versions
from isthmus.runtime.errors import GateError, InputError

BENCHMARK = """
from _helper import FACTOR

def run(*, quick: bool = False, rounds: int = 9, label: str = "x"):
    return {
        "figures": {
            "rounds": rounds,
            "label": label,
            "quick": quick,
            "fast": {"time_ns": {"median": 2.0 * FACTOR, "first_quartile": 3.5, "third_quartile": 4.5}},
        },
        "ratios": {"slow_over_fast": 2.0},
    }
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source checkout whose benchmarks/ holds one benchmark and a helper."""
    folder = tmp_path / "checkout" / "benchmarks"
    folder.mkdir(parents=True)
    (tmp_path / "checkout" / "isthmus").mkdir()
    (folder / "toy.py").write_text(BENCHMARK)
    (folder / "_helper.py").write_text("FACTOR = 2\n")
    (folder / "broken.py").write_text("value = 1\n")
    monkeypatch.setattr(bench.isthmus, "__file__", str(tmp_path / "checkout" / "isthmus" / "__init__.py"))
    monkeypatch.syspath_prepend(str(tmp_path))  # restores sys.path afterwards
    return folder


@pytest.fixture
def bench_cli(checkout: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run_cli(["bench", *arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_a_record_holds_figures_and_all_they_depend_on(bench_cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "toy.json"
    code, out, _ = bench_cli("toy", "--json", str(file), "--option", "rounds=3", "--option", "label=a b")
    assert code == 0
    record = json.loads(file.read_text())
    assert record["name"] == "toy"
    assert record["figures"]["rounds"] == 3
    assert record["figures"]["label"] == "a b"
    assert record["figures"]["fast"]["time_ns"]["median"] == 4.0
    assert record["ratios"] == {"slow_over_fast": 2.0}
    assert record["command"] == "isthmus bench toy --option rounds=3 --option 'label=a b'"
    assert set(record["host"]) >= {"cpu", "cores", "memory_bytes", "governor", "load_average"}
    assert set(record["versions"]) >= {"python", "numpy", "onnxruntime"}
    assert record["date"].endswith("+00:00")
    assert "quartiles 3.5 to 4.5" in out
    assert "slow_over_fast" in out


def test_quick_is_passed_on_and_is_part_of_the_command(bench_cli: Any) -> None:
    code, out, _ = bench_cli("toy", "--quick", "--json", "-")
    assert code == 0
    record = json.loads(out)
    assert record["figures"]["quick"] is True
    assert record["command"] == "isthmus bench toy --quick --json -"


def test_a_relative_output_is_part_of_the_command() -> None:
    assert (
        bench.canonical_command("toy", {}, Path("results/toy.json"))
        == "isthmus bench toy --json results/toy.json"
    )
    assert bench.canonical_command("toy", {}, Path("/elsewhere/toy.json")) == "isthmus bench toy"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 3, "benchmark 'nope' does not exist; choose one of: broken, toy"),
        (["../toy"], 3, "does not exist"),
        (["_helper"], 3, "does not exist"),
        (["broken"], 3, "has no function run"),
        (["toy", "--option", "speed=1"], 3, "has no option 'speed'; it takes: quick, rounds, label"),
        (["toy", "--option", "speed"], 3, "is not key=value"),
        (["toy", "--json", "gone/toy.json"], 3, "its folder does not exist"),
        ([], 2, "Missing argument"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    bench_cli: Any, arguments: list[str], code: int, message: str
) -> None:
    found, out, err = bench_cli(*arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    if code > 2:
        assert err.count("\n") == 1


def test_a_wheel_has_no_benchmarks_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no benchmarks in this installation; .* source checkout"):
        bench.benchmark_folder(tmp_path / "site-packages" / "isthmus" / "__init__.py")


def test_the_checkout_is_found_through_the_links_of_the_rooms(tmp_path: Path) -> None:
    (tmp_path / "checkout" / "isthmus").mkdir(parents=True)
    (tmp_path / "checkout" / "benchmarks").mkdir()
    (tmp_path / "checkout" / "isthmus" / "__init__.py").touch()
    (tmp_path / "link").symlink_to(tmp_path / "checkout" / "isthmus")
    found = bench.benchmark_folder(tmp_path / "link" / "__init__.py")
    assert found == (tmp_path / "checkout" / "benchmarks").resolve()


def test_option_values_are_json_or_text() -> None:
    given = bench.parse_options(["a=3", "b=0.5", "c=true", "d=text", "e=[1, 2]", "f=x=y", "max-rounds=2"])
    assert given == {"a": 3, "b": 0.5, "c": True, "d": "text", "e": [1, 2], "f": "x=y", "max_rounds": 2}


@pytest.mark.parametrize("result", [None, {}, {"figures": {}}, [1]])
def test_a_benchmark_must_return_figures_and_ratios(result: Any) -> None:
    with pytest.raises(InputError, match="must return"):
        check_result(result, Path("toy.py"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan"), [1.0, float("nan")]])
def test_what_was_not_measured_is_not_quoted(value: Any) -> None:
    with pytest.raises(GateError, match=r"figures\.a\.b.* is (nan|inf)"):
        check_result({"figures": {"a": {"b": value}}, "ratios": {}}, Path("toy.py"))


def test_numpy_numbers_become_plain() -> None:
    figures, ratios = check_result(
        {
            "figures": {"n": np.int64(3), "v": np.array([1.0, 2.0]), 4: (1, 2)},
            "ratios": {"r": np.float32(0.5)},
        },
        Path("toy.py"),
    )
    assert json.loads(json.dumps([figures, ratios])) == [{"n": 3, "v": [1.0, 2.0], "4": [1, 2]}, {"r": 0.5}]


def test_flatten_names_every_leaf() -> None:
    assert list(flatten({"a": {"b": 1, "c": [2, 3]}, "d": "x"})) == [
        ("a.b", 1), ("a.c.0", 2), ("a.c.1", 3), ("d", "x"),
    ]  # fmt: skip


def test_a_measurement_is_one_row_with_its_spread_and_unit() -> None:
    figures = {
        "case": {
            "encode": {"median": 5.0, "min": 4.0, "max": 9.0},
            "bytes": 120_000.0,
            "threads": 2,
            "quick": False,
        },
        "switch_s": {"median": 2.9e-5, "first_quartile": 2.5e-5, "third_quartile": 3.4e-3},
        "frames_per_s": 30.0,
        "coders": ["c", "numpy"],
    }
    table = figure_table("t", figures)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows == [
        ("case", "", ""),
        ("  encode", "5", "range 4 to 9"),
        ("  bytes", "120,000", ""),
        ("  threads", "2", ""),
        ("  quick", "false", ""),
        ("switch_s", "29 µs", "quartiles 25 µs to 3.4 ms"),
        ("frames_per_s", "30", ""),
        ("coders", "c, numpy", ""),
    ]


def test_an_arm_board_is_named_by_its_device_tree(tmp_path: Path) -> None:
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "proc" / "device-tree" / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\x00")
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd0b\n")
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:        8129268 kB\n")
    governor = tmp_path / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cpufreq"
    governor.mkdir(parents=True)
    (governor / "scaling_governor").write_text("ondemand\n")
    host = read_host(tmp_path)
    assert host.cpu == "Raspberry Pi 5 Model B Rev 1.0"
    assert host.memory_bytes == 8_129_268 * 1024
    assert host.governor == "ondemand"


def test_what_the_machine_does_not_say_is_unknown(tmp_path: Path) -> None:
    host = read_host(tmp_path)
    assert (host.cpu, host.memory_bytes, host.governor) == (None, None, None)


def test_a_busy_machine_is_noticed() -> None:
    def host(load: float | None) -> Host:
        return Host(
            cpu=None, architecture="", cores=8, usable_cores=4, memory_bytes=None, governor=None,
            load_average=load, system="", threads={},
        )  # fmt: skip

    assert host(1.5).is_busy
    assert not host(0.9).is_busy
    assert not host(None).is_busy


def test_versions_leave_out_what_is_not_installed(tmp_path: Path) -> None:
    versions = read_versions(tmp_path)
    assert "numpy" in versions
    assert "commit" not in versions
    assert all(versions.values())


def test_every_benchmark_of_this_checkout_can_be_loaded() -> None:
    folder = bench.benchmark_folder()
    names = [file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")]
    assert names
    for name in names:
        assert callable(bench.load_benchmark(folder, name))


def test_flags_of_a_benchmark_are_options_and_dashes_in_its_name_do_not_matter(bench_cli: Any) -> None:
    code, out, _ = bench_cli("toy", "--rounds", "3", "--label=a b", "--json", "-")
    assert code == 0
    assert json.loads(out)["command"] == "isthmus bench toy --option rounds=3 --option 'label=a b' --json -"
    assert bench.pairs_of_flags(["--a-b=1=2", "--c", "-3"]) == ["a-b=1=2", "c=-3"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rounds"], "--rounds has no value"),
        (["rounds=3"], "is not an option"),
        (["--depth", "3"], "depth"),
    ],
)
def test_flags_that_are_none_are_refused(bench_cli: Any, flags: list[str], message: str) -> None:
    code, _, err = bench_cli("toy", *flags)
    assert code == 3
    assert message in " ".join(err.split())
