from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import isthmus.models.zoo
from isthmus.models.network import SplitNetwork
from isthmus.models.zoo import entry_names, load_entry, write_entry
from isthmus.models.zoo.entry import CONFIG, WEIGHTS
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import ArtifactError, InputError

FACTS = {
    "command": "isthmus train --weights /home/me/nets/deep/w.pt --dataset npz:/data/x/train.npz --lr 1/2"
}


@pytest.fixture
def weights(quarters_state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    torch.save(quarters_state, tmp_path / "teacher.pt")
    return tmp_path / "teacher.pt"


@pytest.fixture
def tuned(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> SplitNetwork:
    network = make_network(tail_tuned=True)
    with torch.no_grad():
        for parameter in network.tail.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    network.calibrate([torch.from_numpy(quarters.images)])
    return network.eval()


def test_a_network_is_rebuilt_from_its_entry_and_the_teachers_weights(
    tuned: SplitNetwork, weights: Path, quarters: ImageSet, tmp_path: Path
) -> None:
    size = write_entry(tuned, tmp_path / "zoo", facts=FACTS)
    assert size == (tmp_path / "zoo" / WEIGHTS).stat().st_size
    rebuilt, facts = load_entry(str(tmp_path / "zoo"), weights=weights)
    assert facts["command"] == "isthmus train --weights deep/w.pt --dataset npz:x/train.npz --lr 1/2"
    images = torch.from_numpy(quarters.images)
    for width_index in range(4):
        codes, again = tuned.codes(images, width_index), rebuilt.codes(images, width_index)
        assert codes.float().std() > 1
        assert (codes.int() - again.int()).abs().max() <= 1
        assert (codes != again).float().mean() < 0.01
    logits, again = tuned.logits(codes), rebuilt.logits(codes)
    torch.testing.assert_close(again, logits, rtol=0, atol=0.02 * float(logits.abs().max()))
    untuned = tuned.teacher_tail.state_dict()
    assert any(not torch.equal(value, untuned[name]) for name, value in rebuilt.tail.state_dict().items())
    assert not rebuilt.training


def test_the_teachers_weights_are_not_in_an_entry(
    calibrated: SplitNetwork, weights: Path, tmp_path: Path
) -> None:
    write_entry(calibrated, tmp_path / "zoo", facts={})
    rebuilt, _ = load_entry(str(tmp_path / "zoo"), weights=weights)
    trained = sum(
        parameter.numel()
        for part in (calibrated.encoder, calibrated.decoder, calibrated.quantiser, calibrated.exit_head)
        if part is not None
        for parameter in part.state_dict().values()
    )
    assert (tmp_path / "zoo" / WEIGHTS).stat().st_size < 4 * trained + 100 * 300
    assert torch.equal(
        rebuilt.quantiser.state_dict()["log_scale"], calibrated.quantiser.state_dict()["log_scale"]
    )


def test_other_weights_are_refused_in_one_line(
    calibrated: SplitNetwork, quarters_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    write_entry(calibrated, tmp_path / "zoo", facts={})
    other = {name: tensor + 1 for name, tensor in quarters_state.items()}
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(
        ArtifactError, match=r"other\.pt: these weights of digits-cnn have digest .*, the bottleneck was"
    ) as raised:
        load_entry(str(tmp_path / "zoo"), weights=tmp_path / "other.pt")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (WEIGHTS, b"PK", r"weights\.npz: its SHA-256 is not the one in config\.json"),
        (CONFIG, b"{", r"config\.json: Input data was truncated"),
        (CONFIG, b'{"format": 3}', r"config\.json: .*`int`"),
    ],
)
def test_a_damaged_entry(
    file: str, text: bytes, message: str, calibrated: SplitNetwork, weights: Path, tmp_path: Path
) -> None:
    write_entry(calibrated, tmp_path / "zoo", facts={})
    (tmp_path / "zoo" / file).write_bytes(text)
    with pytest.raises(ArtifactError, match=message):
        load_entry(str(tmp_path / "zoo"), weights=weights)


def test_an_entry_of_another_version(calibrated: SplitNetwork, weights: Path, tmp_path: Path) -> None:
    write_entry(calibrated, tmp_path / "zoo", facts={})
    file = tmp_path / "zoo" / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 2}))
    with pytest.raises(ArtifactError, match="is 'isthmus-zoo' version 2, not 'isthmus-zoo' version 1"):
        load_entry(str(tmp_path / "zoo"), weights=weights)
    (tmp_path / "zoo" / WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match=r"weights\.npz: No such file"):
        load_entry(str(tmp_path / "zoo"), weights=weights)


def test_an_unknown_entry(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zoo entry 'none': give the folder of one, or a name: "):
        load_entry("none", weights=tmp_path / "w.pt")


def test_a_users_own_network_has_no_place_in_the_zoo(calibrated: SplitNetwork, tmp_path: Path) -> None:
    import dataclasses

    calibrated.config = dataclasses.replace(calibrated.config, model="net.py:build")
    with pytest.raises(InputError, match="the zoo holds bottlenecks of the package's own networks"):
        write_entry(calibrated, tmp_path / "zoo", facts={})


def test_all_entries_together_take_at_most_four_megabytes() -> None:
    folder = Path(isthmus.models.zoo.__file__).parent
    sizes = [(folder / name / WEIGHTS).stat().st_size for name in entry_names()]
    assert sum(sizes) <= 4_000_000
    assert all((folder / name / "card.md").is_file() for name in entry_names())
