from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.models.network import SplitNetwork
from isthmus.models.output_names import AGREEMENT, check_images, labelled_for, output_names
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError


def _set(classes: tuple[str, ...], images: ImageSet) -> ImageSet:
    labels = np.arange(len(images), dtype=np.int64) % len(classes)
    return ImageSet(images=images.images, labels=labels, classes=classes, name="photographs")


def test_names_come_from_the_images_a_number_or_a_file(tmp_path: Path) -> None:
    assert output_names(None, "x", ("cat", "dog")) == ("cat", "dog")
    assert output_names("3", "x", ("cat", "dog")) == ("0", "1", "2")
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\n\ncat\n")
    assert output_names(str(names), "x", ()) == ("ant", "bee", "cat")
    table = tmp_path / "names.csv"
    table.write_text("wnid,index\nn02,217\nn01,0\n")
    found = output_names(str(table), "mobilenet-v2", ())
    assert (len(found), found[0], found[1], found[217]) == (1000, "n01", "1", "n02")
    assert len(output_names(str(table), "mine.py:make", ())) == 218


def test_a_file_that_names_no_outputs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: .*; give --outputs NUMBER or a file"):
        output_names(str(tmp_path / "absent"), "x", ())
    table = tmp_path / "names.csv"
    table.write_text("wnid,index\nn02,many\n")
    with pytest.raises(InputError, match="give a header and lines of name,index"):
        output_names(str(table), "x", ())
    table.write_text("wnid,index\nn02,1000\n")
    with pytest.raises(InputError, match="names output 1000, mobilenet-v2 has 1000"):
        output_names(str(table), "mobilenet-v2", ())


def test_images_whose_classes_are_outputs_keep_the_truth(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    network = make_network()
    images = _set(("lower left", "upper left"), quarters)
    check_images(network.config, images)
    found = labelled_for(network, images)
    assert found.classes == network.config.labels
    assert found.labels[:4].tolist() == [2, 0, 2, 0]
    assert found.name == "photographs"


def test_images_of_other_classes_are_worth_the_uncut_networks_answers(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    network = make_network()
    images = _set(("cat", "dog"), quarters)
    check_images(network.config, images)
    found = labelled_for(network, images)
    with torch.no_grad():
        answers = network.teacher(network.normalise(torch.from_numpy(quarters.images))).argmax(1)
    assert found.labels.tolist() == answers.tolist()
    assert len(set(found.labels.tolist())) > 1
    assert found.name == f"photographs, {AGREEMENT}"


def test_as_many_classes_of_other_names_are_a_mistake(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    with pytest.raises(InputError, match="are not the network's"):
        check_images(make_network().config, _set(("a", "b", "c", "d"), quarters))
