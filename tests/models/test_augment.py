import torch

from isthmus.models.augment import Augmentation


def _batch() -> torch.Tensor:
    return torch.randint(1, 256, (40, 6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_no_augmentation_changes_nothing() -> None:
    batch = _batch()
    assert torch.equal(Augmentation()(batch, torch.Generator()), batch)


def test_every_image_is_a_shift_of_its_source_with_a_black_border() -> None:
    batch, found = _batch(), Augmentation(shift=2)(_batch(), torch.Generator().manual_seed(1))
    moves = set()
    for image, source in zip(found, batch, strict=True):
        padded = torch.nn.functional.pad(source, (0, 0, 2, 2, 2, 2))
        matches = [
            (y, x) for y in range(5) for x in range(5) if torch.equal(padded[y : y + 6, x : x + 8], image)
        ]
        assert len(matches) == 1
        moves.add(matches[0])
    assert len(moves) > 10


def test_about_half_of_the_images_are_mirrored() -> None:
    batch, found = _batch(), Augmentation(flip=True)(_batch(), torch.Generator().manual_seed(1))
    mirrored = [torch.equal(image, source.flip(1)) for image, source in zip(found, batch, strict=True)]
    same = [torch.equal(image, source) for image, source in zip(found, batch, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 10 <= sum(mirrored) <= 30


def test_the_generator_decides() -> None:
    augment = Augmentation(shift=2, flip=True)
    one, same, other = (augment(_batch(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
