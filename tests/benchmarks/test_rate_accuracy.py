"""The arithmetic of the rate–accuracy benchmark, on curves whose answers are known."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.cli import run
from isthmus.cli.bench import benchmark_folder, load_benchmark
from isthmus.runtime.errors import InputError


@pytest.fixture(scope="module")
def curves() -> ModuleType:
    load_benchmark(benchmark_folder(), "rate_accuracy")
    return sys.modules["_rate.curves"]


def _setting(curves: ModuleType, method: str, right: int, size: int, count: int = 100) -> object:
    """A setting that answers the first `right` of `count` images rightly, where the truth is always 0."""
    answers = (np.arange(count) >= right).astype(np.int64)
    sizes = np.full(count, size, dtype=np.int64)
    return curves.Setting(method=method, setting=str(size), sizes_n=sizes, answers_n=answers, device_s=1e-3)


def test_a_front_keeps_what_nothing_beats(curves):
    sizes, scores = np.array([10.0, 20, 30, 30, 40]), np.array([0.5, 0.4, 0.7, 0.6, 0.7])
    assert curves.front(sizes, scores).tolist() == [0, 2]


def test_half_the_bytes_at_every_accuracy_is_minus_a_half(curves):
    scores = np.array([0.80, 0.85, 0.90, 0.93])
    theirs = np.array([100.0, 180, 300, 700])
    ratio = curves.mean_log_ratio((theirs / 2, scores), (theirs, scores), 0.82, 0.92)
    assert np.expm1(ratio) == pytest.approx(-0.5)


def test_a_straight_line_in_the_logarithm_has_the_mean_of_its_ends(curves):
    # Theirs is flat at 100 bytes per e-fold; ours starts equal and ends at a quarter: the mean log is half.
    scores = np.array([0.8, 0.9])
    ratio = curves.mean_log_ratio(
        (np.array([100.0, 200]), scores), (np.array([100.0, 800]), scores), 0.8, 0.9
    )
    assert ratio == pytest.approx(np.log(0.25) / 2)


def test_only_the_shared_stretch_is_compared(curves):
    ours = (np.array([10.0, 20]), np.array([0.7, 0.8]))
    theirs = (np.array([40.0, 80]), np.array([0.85, 0.9]))
    assert curves.mean_log_ratio(ours, theirs, 0.6, 0.95) is None
    assert curves.shared_stretch(ours, theirs, 0.6, 0.95) is None
    other = (theirs[0], np.array([0.75, 0.9]))
    assert curves.shared_stretch(ours, other, 0.6, 0.95) == (0.75, 0.8)


def test_the_stated_stretch_is_the_one_integrated(curves):
    # The first setting of ours is worth less than the second and is larger: it is on no curve.
    ours = (np.array([30.0, 10, 20]), np.array([0.5, 0.7, 0.8]))
    theirs = (np.array([40.0, 80]), np.array([0.4, 0.9]))
    low, high = curves.shared_stretch(ours, theirs, 0.3, 0.95)
    assert (low, high) == (0.7, 0.8)
    whole = curves.mean_log_ratio(ours, theirs, 0.3, 0.95)
    assert whole == pytest.approx(curves.mean_log_ratio(ours, theirs, low, high))
    assert whole != pytest.approx(curves.mean_log_ratio(ours, theirs, low + 0.02, high))


def test_a_front_of_one_point_has_no_stretch(curves):
    images = curves.Images(np.zeros(100, dtype=np.int64), draws=5)
    teacher = _setting(curves, "uncut", 95, 0)
    # Two settings, of which the smaller is the better.
    ours = [_setting(curves, "a", 92, 10), _setting(curves, "a", 70, 20)]
    theirs = [_setting(curves, "b", 60, 100), _setting(curves, "b", 94, 200)]
    assert images.bjontegaard(ours, theirs, teacher, below=(1.0, -1.0)) is None
    assert images.stretch(ours, theirs, teacher, below=(1.0, -1.0)) is None
    assert images.stretch(theirs, theirs, teacher, below=(1.0, -1.0)) == (0.6, 0.94)


@given(st.integers(0, 10_000), st.floats(0.05, 20))
@settings(max_examples=60)
def test_the_difference_is_antisymmetric_and_scales(curves, seed, factor):
    random = np.random.default_rng(seed)
    curve = [(np.sort(random.uniform(10, 1000, 6)), np.sort(random.uniform(0.5, 0.95, 6))) for _ in range(2)]
    there, back = (curves.mean_log_ratio(a, b, 0.6, 0.9) for a, b in (curve, curve[::-1]))
    scaled = curves.mean_log_ratio((factor * curve[0][0], curve[0][1]), curve[1], 0.6, 0.9)
    assert (there is None) == (back is None)
    if there is not None:
        assert there == pytest.approx(-back, abs=1e-9)
        assert scaled == pytest.approx(there + np.log(factor), abs=1e-9)


def test_bytes_at_a_score_are_those_of_a_measured_setting(curves):
    sizes, scores = np.array([50.0, 100, 200]), np.array([0.8, 0.9, 0.95])
    assert curves.least_bytes(sizes, scores, 0.9) == 100
    assert curves.least_bytes(sizes, scores, 0.96) is None


def test_differences_are_paired_over_the_same_draws(curves):
    images = curves.Images(np.zeros(100, dtype=np.int64))
    good, worse = _setting(curves, "a", 90, 10), _setting(curves, "b", 80, 10)
    found = images.difference(worse, good)
    assert found.value == pytest.approx(-0.10)
    # Unpaired the interval would be about ±0.10 wide; ten images differ, paired it is about ±0.06.
    assert -0.18 < found.low < -0.10 < found.high < -0.02
    nothing = images.difference(good, good)
    assert (nothing.low, nothing.high) == (0.0, 0.0)


def test_the_rate_difference_of_settings_comes_with_its_interval(curves):
    images = curves.Images(np.zeros(100, dtype=np.int64), draws=200)
    rights, sizes = (80, 86, 90, 94), (100, 200, 300, 500)
    theirs = [_setting(curves, "b", right, size) for right, size in zip(rights, sizes, strict=True)]
    ours = [_setting(curves, "a", right, size // 4) for right, size in zip(rights, sizes, strict=True)]
    teacher = _setting(curves, "uncut", 95, 0)
    found = images.bjontegaard(ours, theirs, teacher, below=(0.10, 0.01))
    assert found.value == pytest.approx(-0.75)
    assert found.low == pytest.approx(-0.75)
    assert found.high == pytest.approx(-0.75)
    assert (found.drawn, "drawn_percent" in found.as_figures()) == (1.0, False)
    assert images.bjontegaard(ours[:1], theirs, teacher, below=(0.10, 0.01)) is None


def test_an_interval_says_of_which_draws_it_is(curves):
    images = curves.Images(np.zeros(100, dtype=np.int64), draws=200)
    teacher = _setting(curves, "uncut", 95, 0)
    # Both are right on the same images, and ours begins where theirs ends: in some draws above it.
    theirs = [_setting(curves, "b", 60, 100), _setting(curves, "b", 81, 200)]
    ours = [_setting(curves, "a", 80, 50), _setting(curves, "a", 90, 80)]
    found = images.bjontegaard(ours, theirs, teacher, below=(1.0, -1.0))
    assert 0.5 < found.drawn < 1.0
    assert found.as_figures()["drawn_percent"] == round(100 * found.drawn, 1)


def _points(curves, right_by_point, size=100):
    settings = []
    for (width, channels), right in right_by_point.items():
        answers = (np.arange(100) >= right).astype(np.int64)
        sizes = np.full(100, size * channels, dtype=np.int64)
        head_s = width * 1e-3
        settings.append(
            curves.Setting(
                method="m",
                setting="",
                sizes_n=sizes,
                answers_n=answers,
                device_s=head_s,
                head_s=head_s,
                point=(width, channels),
            )
        )
    return settings


def test_what_sharing_costs_is_taken_at_equal_points(curves):
    equal = sys.modules["_rate.equal"]
    images = curves.Images(np.zeros(100, dtype=np.int64), draws=50)
    shared = _points(curves, {(0.25, 1): 50, (0.25, 2): 60, (1.0, 1): 80, (1.0, 2): 90})
    alone = {0.25: _points(curves, {(1.0, 1): 53, (1.0, 2): 60}), 1.0: _points(curves, {(1.0, 2): 88})}
    found = equal.against_dedicated(images, shared, alone)
    assert found["points"] == 3
    assert (found["worst"]["at"], found["worst"]["value"]) == ("0.25x1", pytest.approx(-3))
    assert (found["widest_point"]["at"], found["widest_point"]["value"]) == ("1x2", pytest.approx(2))
    assert found["by_width"]["0.25"]["value"] == pytest.approx(-1.5)
    assert found["bytes_ratio_mean"] == 1.0


def test_an_ablation_that_shares_no_point_says_so(curves):
    equal = sys.modules["_rate.equal"]
    images = curves.Images(np.zeros(100, dtype=np.int64), draws=5)
    one, other = _points(curves, {(1.0, 1): 50}), _points(curves, {(1.0, 3): 50})
    assert equal.against_whole(images, one, other) == {"points": "none in common"}


def test_spans_are_those_of_the_front(curves):
    equal = sys.modules["_rate.equal"]
    images = curves.Images(np.zeros(100, dtype=np.int64), draws=5)
    settings = _points(curves, {(0.25, 1): 50, (0.25, 2): 40, (1.0, 4): 80, (1.0, 9): 80})
    found = equal.spans(images, settings)
    assert (found["points_on_front"], found["bytes_span"], found["bytes_span_of_all_points"]) == (2, 4.0, 9.0)
    assert found["head_time_span"] == 4.0


@pytest.fixture(scope="module")
def image_codecs() -> ModuleType:
    load_benchmark(benchmark_folder(), "rate_accuracy")
    return sys.modules["_rate.image_codecs"]


class _Uncut:
    """Answers with the brightest colour, and counts how often it is asked."""

    def __init__(self, digest: str) -> None:
        self.digest, self.asked = digest, 0

    def answer(self, images_nhwc: np.ndarray) -> np.ndarray:
        self.asked += 1
        return images_nhwc.mean(axis=(1, 2)).argmax(axis=1)


def _part(images_nhwc: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(images_nhwc=images_nhwc)


def test_what_an_image_codec_gives_is_found_once(image_codecs, tmp_path, monkeypatch):
    monkeypatch.setitem(image_codecs._QUALITIES, "JPEG", (10, 90))
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    uncut = _Uncut("a")

    def run(part: SimpleNamespace, by: _Uncut, folder: Path | None) -> list[tuple[list[int], list[int]]]:
        settings = image_codecs.image_codec("JPEG", part, by, folder)
        return [(one.sizes_n.tolist(), one.answers_n.tolist()) for one in settings]

    fresh = run(_part(images), uncut, None)
    assert sum(fresh[0][0]) < sum(fresh[1][0])
    assert run(_part(images), uncut, tmp_path / "codecs") == fresh
    assert uncut.asked == 4
    assert run(_part(images), uncut, tmp_path / "codecs") == fresh
    assert uncut.asked == 4
    # Other images, and another network, are other questions.
    run(_part(images[::-1]), uncut, tmp_path / "codecs")
    assert uncut.asked == 6
    other = _Uncut("b")
    run(_part(images), other, tmp_path / "codecs")
    assert other.asked == 2


@pytest.fixture(scope="module")
def places() -> ModuleType:
    load_benchmark(benchmark_folder(), "rate_accuracy")
    return sys.modules["_rate.places"]


def test_a_quick_look_leaves_the_tracked_table_alone(places, tmp_path):
    tracked = places.table_file("cifar10-resnet56", None, kept=True)
    assert tracked == benchmark_folder() / "results" / "rate_accuracy-cifar10-resnet56.md"
    assert places.table_file("cifar10-resnet56", None, kept=False) is None
    assert places.table_file("cifar10-resnet56", "none", kept=True) is None
    own = tmp_path / "own.md"
    assert places.table_file("cifar10-resnet56", str(own), kept=False) == own
    with pytest.raises(InputError, match="is a folder"):
        places.table_file("cifar10-resnet56", str(tmp_path), kept=True)


@pytest.mark.parametrize("options", [{}, {"quick": True}, {"models": "elsewhere"}])
def test_only_a_whole_run_of_the_usual_models_is_kept(places, options, monkeypatch):
    benchmark = sys.modules["isthmus_benchmark_rate_accuracy"]

    class AskedError(Exception):
        pass

    def asked(task: str, table: str | None, *, kept: bool) -> None:
        raise AskedError(kept)

    monkeypatch.setattr(benchmark, "table_file", asked)
    with pytest.raises(AskedError) as found:
        benchmark.run(task="cifar10-resnet56", **options)
    assert found.value.args == (not options,)


def test_a_table_without_a_folder_is_known_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "no data"))
    table = tmp_path / "nowhere" / "table.md"
    assert run(["bench", "rate-accuracy", "--task", "cifar10-resnet56", "--table", str(table)]) == 3
    assert f"{table}: its folder does not exist" in "".join(capsys.readouterr().err.split("\n"))


def test_an_ablation_of_an_older_comparison_is_left_out(places, tiny_bundle, tmp_path):
    for name in ("no-rate-term", "no-delayed-shrinking"):
        shutil.copytree(tiny_bundle, tmp_path / "ablation" / name)
    found, left_out = places.ablations_in(tmp_path / "ablation")
    assert list(found) == ["no-rate-term"]
    assert left_out == ["ablation/no-delayed-shrinking"]
    assert places.ablations_in(tmp_path / "nowhere") == ({}, [])
