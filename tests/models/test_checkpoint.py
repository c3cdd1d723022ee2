from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from isthmus.models.checkpoint import load_start, read_checkpoint, write_tensors
from isthmus.models.network import SplitNetwork, load_checkpoint, save_checkpoint
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import ArtifactError, InputError


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_a_network_survives_saving(calibrated: SplitNetwork, quarters_test: ImageSet, tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.pt"
    save_checkpoint(calibrated, path, facts={"seed": "0"})
    loaded = load_checkpoint(path)
    batch = torch.from_numpy(quarters_test.images[:8])
    assert loaded.config == calibrated.config
    assert not loaded.training
    for index in range(4):
        codes = calibrated.codes(batch, index)
        assert torch.equal(loaded.codes(batch, index), codes)
        torch.testing.assert_close(loaded.logits(codes), calibrated.logits(codes))
    assert read_checkpoint(path)["facts"] == {"seed": "0"}
    assert list(path.parent.iterdir()) == [path]  # nothing partial is left


def test_a_training_directory_stands_for_its_checkpoint(calibrated: SplitNetwork, tmp_path: Path) -> None:
    save_checkpoint(calibrated, tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path).config == calibrated.config


def test_a_tuned_tail_is_saved(make_network: Callable[..., SplitNetwork], tmp_path: Path) -> None:
    network = make_network(tail_tuned=True)
    with torch.no_grad():
        next(network.tail.parameters()).add_(1.0)
    save_checkpoint(network, tmp_path / "checkpoint.pt")
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(next(loaded.tail.parameters()), next(network.tail.parameters()))
    assert not torch.equal(next(loaded.tail.parameters()), next(loaded.teacher_tail.parameters()))


def test_without_its_teacher_a_checkpoint_needs_the_weights(
    calibrated: SplitNetwork, quarters_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path, weights = tmp_path / "checkpoint.pt", tmp_path / "teacher.pt"
    save_checkpoint(calibrated, path, with_teacher=False)
    with pytest.raises(ArtifactError, match="leaves out the weights of digits-cnn; give them with --weights"):
        load_checkpoint(path)
    torch.save(quarters_state, weights)
    assert load_checkpoint(path, weights=weights).config == calibrated.config
    other = {name: tensor + 1 for name, tensor in quarters_state.items()}
    torch.save(other, weights)
    with pytest.raises(ArtifactError, match=r"teacher.pt: these weights .* was trained with"):
        load_checkpoint(path, weights=weights)
    with pytest.raises(InputError, match=r"absent.pt"):
        load_checkpoint(path, weights=tmp_path / "absent.pt")


def test_a_checkpoint_without_teacher_holds_none_of_its_weights(
    calibrated: SplitNetwork, tmp_path: Path
) -> None:
    save_checkpoint(calibrated, tmp_path / "with.pt")
    save_checkpoint(calibrated, tmp_path / "without.pt", with_teacher=False)
    assert read_checkpoint(tmp_path / "without.pt")["teacher"] is None
    assert set(read_checkpoint(tmp_path / "without.pt")["parts"]) == {
        "encoder",
        "quantiser",
        "decoder",
        "exit",
    }
    assert (tmp_path / "without.pt").stat().st_size < (tmp_path / "with.pt").stat().st_size


def test_what_is_no_checkpoint_is_one_line(calibrated: SplitNetwork, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ArtifactError, match="No such file or directory; make one with 'isthmus train'"):
        load_checkpoint(path)
    save_checkpoint(calibrated, path)
    whole = path.read_bytes()
    for cut in (0, 100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:cut])
        with pytest.raises(ArtifactError, match="not a readable checkpoint") as error:
            load_checkpoint(path)
        assert "\n" not in str(error.value)


def test_code_is_never_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"format": _Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ArtifactError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is 'other' version 1, not 'isthmus-split-network' version 1"),
        ({"version": 2}, "version 2, not"),
        ({"config": None}, "lacks its config"),
        ({"parts": {}}, r"has parts \[\], expected \['decoder', 'encoder', 'exit', 'quantiser'\]"),
    ],
)
def test_altered_contents_are_refused(
    calibrated: SplitNetwork, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(calibrated, path)
    write_tensors({**read_checkpoint(path), **change}, path)
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(path)


def test_tensors_of_another_shape_are_refused(calibrated: SplitNetwork, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(calibrated, path)
    contents = read_checkpoint(path)
    contents["parts"]["quantiser"]["log_scale"] = torch.zeros(9)
    write_tensors(contents, path)
    with pytest.raises(ArtifactError, match=r"its quantiser does not fit the config: .*log_scale"):
        load_checkpoint(path)


def test_a_checkpoint_from_before_the_families_is_slim(calibrated: SplitNetwork, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(calibrated, path)
    contents = read_checkpoint(path)
    for name in ("family", "structure"):
        del contents["config"][name]
    write_tensors(contents, path)
    assert load_checkpoint(path).config == calibrated.config


def test_a_checkpoint_gives_another_network_its_first_weights(
    make_network: Callable[..., SplitNetwork], tmp_path: Path
) -> None:
    source, wider = make_network(seed=1), make_network(seed=2, decoder_channels=24)
    save_checkpoint(source, tmp_path / "checkpoint.pt")
    names = load_start(wider, tmp_path)
    assert torch.equal(wider.encoder.project.weight, source.encoder.project.weight)
    assert "encoder.project.weight" in names
    assert "exit_head.linear.weight" in names
    assert "decoder.layers.0.weight" not in names  # of another shape
    assert set(names) <= {name for name, _ in wider.named_parameters()}


def test_a_start_of_which_nothing_fits_is_one_line(
    make_network: Callable[..., SplitNetwork], tmp_path: Path
) -> None:
    write_tensors({"parts": {"encoder": {"other": torch.zeros(1)}}}, tmp_path / "start.pt")
    with pytest.raises(ArtifactError, match=r"start\.pt: no tensor of it fits this bottleneck"):
        load_start(make_network(), tmp_path / "start.pt")
