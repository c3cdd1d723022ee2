from collections.abc import Callable

import pytest
from torch import nn

from isthmus.models.backbones import make_model
from isthmus.models.config import SplitConfig
from isthmus.models.design import BottleneckSize, design, normalisation
from isthmus.models.network import tensor_digest
from isthmus.runtime.errors import PlanError


def test_a_design_probes_the_cut(
    make_config: Callable[..., SplitConfig], make_teacher: Callable[[], nn.Module]
) -> None:
    config = make_config(cut="stage1")
    assert config.cut_shape_chw == (16, 8, 8)
    assert (config.latent_height, config.latent_width) == (4, 4)
    assert config.later_levels == ("stage2", "stage3")
    assert config.non_negative
    assert config.teacher_digest == tensor_digest(make_teacher())
    assert config.channel_counts == (1, 2, 4, 8)


@pytest.mark.parametrize(("channels", "counts"), [(16, (2, 4, 8, 16)), (4, (1, 2, 4)), (1, (1,))])
def test_usual_prefixes(channels: int, counts: tuple[int, ...]) -> None:
    assert BottleneckSize(channels=channels).counts() == counts


def test_given_prefixes_are_kept() -> None:
    assert BottleneckSize(channels=16, channel_counts=(3, 16)).counts() == (3, 16)


def test_usual_normalisation() -> None:
    assert len(normalisation(3)[0]) == 3
    assert normalisation(1) == ((0.5,), (0.5,))


def test_the_networks_own_normalisation_is_the_default() -> None:
    assert normalisation(3, "mobilenet-v2-same") == ((0.5,) * 3, (0.5,) * 3)
    assert normalisation(3, "resnet50") == normalisation(3, "mine.py:make") == normalisation(3)
    assert normalisation(1, "resnet50") == normalisation(1)


def test_a_cut_that_is_none_lists_those_a_decoder_reaches(make_config: Callable[..., SplitConfig]) -> None:
    with pytest.raises(
        PlanError, match=r"cut 'stage9' does not fit this network; cuts that fit: stage1.0, .*stage3"
    ):
        make_config(cut="stage9")


def test_an_image_that_the_stages_do_not_divide_gets_a_latent_that_covers_it() -> None:
    config = design(
        "cifar-resnet20",
        make_model("cifar-resnet20", 10, 3),
        cut="layer1",
        shape_hwc=(30, 30, 3),
        labels=[str(index) for index in range(10)],
    )
    assert (config.latent_height, config.latent_width) == (8, 8)
    assert config.cut_shape_chw == (16, 30, 30)


def test_classes_must_agree(make_teacher: Callable[[], nn.Module]) -> None:
    with pytest.raises(PlanError, match=r"answers with \(1, 4\) for one image, the data set has 3 classes"):
        design("digits-cnn", make_teacher(), cut="stage2", shape_hwc=(16, 16, 1), labels=["a", "b", "c"])
