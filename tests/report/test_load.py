import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus.report import load_runs, summarise
from isthmus.runtime.errors import ArtifactError, BundleError, InputError


def copy_of(run: Any, folder: Path) -> Path:
    return Path(shutil.copytree(run.folder, folder))


def test_a_folder_gives_every_part_of_its_run(synthetic_run: Any) -> None:
    (log,) = load_runs([synthetic_run.folder])
    assert log.name == "run"
    assert log.folder == synthetic_run.folder
    assert log.tally.frames == len(synthetic_run.frames)
    assert log.run is not None
    assert log.end is not None
    assert log.table is not None
    assert log.widths == log.run.widths
    assert len(log.links) == 41
    assert log.shapes.rate_bytes_per_s[0] == 30e3
    assert log.notes == ()


def test_files_give_one_run_each_and_a_link_log_belongs_to_all(synthetic_run: Any, tmp_path: Path) -> None:
    second = tmp_path / "second.jsonl"
    shutil.copy(synthetic_run.folder / "events.jsonl", second)
    runs = load_runs([synthetic_run.folder / "events.jsonl", second, synthetic_run.folder / "link.jsonl"])
    assert [run.name for run in runs] == ["events", "second"]
    assert all(len(run.shapes) == 11 for run in runs)


def test_the_last_line_of_a_killed_agent_may_be_torn(synthetic_run: Any, tmp_path: Path) -> None:
    whole = (synthetic_run.folder / "events.jsonl").read_bytes()
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(whole[: len(whole) // 2])
    (log,) = load_runs([torn])
    assert log.end is None
    assert 0 < log.tally.frames < len(synthetic_run.frames)


def test_a_broken_line_in_the_middle_is_an_error(synthetic_run: Any, tmp_path: Path) -> None:
    lines = (synthetic_run.folder / "events.jsonl").read_bytes().split(b"\n")
    lines[5] = b'{"type":"frame"'
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"\n".join(lines))
    with pytest.raises(ArtifactError, match=r"broken\.jsonl:6"):
        load_runs([broken])


def test_only_the_frames_are_indispensable(write_synthetic_run: Callable[..., Any], tmp_path: Path) -> None:
    run = write_synthetic_run(
        tmp_path / "bare", seconds=2.0, with_bundle=False, with_shapes=False, with_links=False, with_end=False
    )
    (log,) = load_runs([run.folder])
    assert log.tally.frames == 60
    assert (len(log.links), len(log.shapes)) == (0, 0)
    assert (log.end, log.table, log.plan, log.timings_s) == (None, None, None, ())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone", None, "no such run folder"),
        ("empty-folder", {}, r"events\.jsonl: no such file"),
        ("no-frames", {"events.jsonl": ""}, "holds no frame"),
    ],
)
def test_a_path_without_a_run_names_itself_and_a_remedy(
    tmp_path: Path, name: str, content: dict[str, str] | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.mkdir()
        for file, text in content.items():
            (path / file).write_text(text)
    with pytest.raises((InputError, ArtifactError), match=message):
        load_runs([path])


def test_link_rates_alone_are_no_run(synthetic_run: Any) -> None:
    with pytest.raises(InputError, match="holds no run"):
        load_runs([synthetic_run.folder / "link.jsonl"])


def test_two_runs_in_one_file_are_refused(synthetic_run: Any, tmp_path: Path) -> None:
    whole = (synthetic_run.folder / "events.jsonl").read_bytes()
    (tmp_path / "twice.jsonl").write_bytes(whole + whole)
    with pytest.raises(ArtifactError, match="holds 2 runs"):
        load_runs([tmp_path / "twice.jsonl"])


def test_a_bundle_given_by_hand_must_be_the_runs_own(
    synthetic_run: Any, synthetic_run_module: Any, tmp_path: Path
) -> None:
    events = synthetic_run.folder / "events.jsonl"
    (log,) = load_runs([events], bundle=synthetic_run.folder / "bundle")
    assert log.table is not None
    other = tmp_path / "other"
    synthetic_run_module.write_bundle(other, made_by="someone else")
    with pytest.raises(ArtifactError, match="is not that of the run"):
        load_runs([events], bundle=other)
    with pytest.raises(BundleError):
        load_runs([events], bundle=tmp_path / "nowhere")


def test_an_altered_bundle_beside_the_log_is_left_out_and_noted(synthetic_run: Any, tmp_path: Path) -> None:
    folder = copy_of(synthetic_run, tmp_path / "run")
    (folder / "bundle" / "points.json").write_text("{}")
    (log,) = load_runs([folder])
    assert log.table is None
    assert "bundle beside the log is not used" in log.notes[0]
    assert "points.json" in log.notes[0]


def test_another_runs_bundle_beside_the_log_is_left_out_and_noted(
    synthetic_run: Any, synthetic_run_module: Any, tmp_path: Path
) -> None:
    folder = copy_of(synthetic_run, tmp_path / "run")
    shutil.rmtree(folder / "bundle")
    synthetic_run_module.write_bundle(folder / "bundle", made_by="a later export")
    (log,) = load_runs([folder])
    assert log.table is None
    assert "digest differs" in log.notes[0]


def test_plan_and_timings_are_read_if_they_can_be(synthetic_run: Any, tmp_path: Path) -> None:
    folder = copy_of(synthetic_run, tmp_path / "run")
    choice = {
        "kind": "bottleneck",
        "cut": "relu_3",
        "module": "stage1",
        "reason": "2.1 times faster",
        "gain": 2.1,
    }
    (folder / "plan.json").write_text(json.dumps({"schema_version": 1, "choice": choice}))
    (folder / "timings.json").write_text(json.dumps({"train": 31.5, "export": 4, "note": "text"}))
    (log,) = load_runs([folder])
    assert log.plan is not None
    assert (log.plan.kind, log.plan.cut, log.plan.module) == ("bottleneck", "relu_3", "stage1")
    assert log.timings_s == (("train", 31.5), ("export", 4.0))


@pytest.mark.parametrize("name", ["plan.json", "timings.json", "teacher.json", "link.jsonl"])
def test_an_unreadable_side_file_is_noted_not_guessed(synthetic_run: Any, tmp_path: Path, name: str) -> None:
    folder = copy_of(synthetic_run, tmp_path / "run")
    (folder / name).write_text('{"choice": \n 5')
    (log,) = load_runs([folder])
    assert len(log.notes) == 1
    assert "not used" in log.notes[0]


def test_the_teachers_answers_count_only_for_the_frames_of_this_run(
    synthetic_run: Any, tmp_path: Path
) -> None:
    folder = copy_of(synthetic_run, tmp_path / "run")
    labels = [frame.truth for frame in synthetic_run.frames]
    ordered = [
        label for _, label in sorted(zip((f.frame for f in synthetic_run.frames), labels, strict=True))
    ]
    (folder / "teacher.json").write_text(json.dumps({"answers": ordered, "labels": ordered}))
    (log,) = load_runs([folder])
    summary = summarise(log)
    assert summary.accuracy.teacher == 1.0
    assert summary.accuracy.teacher_same_frames
    shifted = ordered[1:] + ordered[:1]
    (folder / "teacher.json").write_text(json.dumps({"answers": ordered, "labels": shifted}))
    (log,) = load_runs([folder])
    assert "labels are not those of this run" in log.notes[0]
    assert not summarise(log).accuracy.teacher_same_frames
