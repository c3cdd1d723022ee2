import torch

from isthmus.models.augment import Augmentation, Mixing


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


def _ramp(count: int) -> torch.Tensor:
    """Return images whose value is their column, so that crops can be measured."""
    row = torch.arange(40, dtype=torch.uint8) * 5
    return row[None, None, :, None].expand(count, 40, 40, 3).contiguous()


def test_a_random_crop_is_a_scaled_part_of_its_image() -> None:
    found = Augmentation(crop_scale=0.3)(_ramp(60), torch.Generator().manual_seed(0)).float()
    widths = (found[:, :, -3:].mean(dim=(1, 2, 3)) - found[:, :, :3].mean(dim=(1, 2, 3))) / (37 * 5)
    assert found.shape == (60, 40, 40, 3)
    assert 0.4 < widths.min() < 0.7  # √(0.3 · 3/4) = 0.47 is the narrowest
    assert 0.9 < widths.max() <= 1.01
    assert (found.std(dim=1) < 0.6).all()  # rows of a part are alike, as rows of the image are


def test_a_crop_may_be_mirrored() -> None:
    found = Augmentation(crop_scale=0.5, flip=True)(_ramp(60), torch.Generator().manual_seed(0)).float()
    falling = found[:, 0, 0, 0] > found[:, 0, -1, 0]
    assert 15 <= int(falling.sum()) <= 45


def test_no_jitter_is_no_change_and_jitter_keeps_grey_grey() -> None:
    batch = _batch()
    jitter = Augmentation(jitter=0.4)
    changed = jitter(batch, torch.Generator().manual_seed(0))
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, batch)
    ratios = changed.float().mean(dim=(1, 2, 3)) / batch.float().mean(dim=(1, 2, 3))
    assert 0.5 < ratios.min() < 0.8
    assert 1.1 < ratios.max() < 1.5
    grey = batch[..., :1].expand(-1, -1, -1, 3).contiguous()
    found = jitter(grey, torch.Generator().manual_seed(0)).float()
    assert (found.amax(dim=3) - found.amin(dim=3)).max() <= 1


def test_jitter_by_the_formula() -> None:
    # One colour channel: contrast about the mean, then brightness; saturation means nothing.
    batch = torch.randint(
        60, 160, (8, 6, 6, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = Augmentation(jitter=0.2)(batch, torch.Generator().manual_seed(3))
    draws = 1 + 0.2 * (2 * torch.rand(3, 8, generator=torch.Generator().manual_seed(3)) - 1)
    mean = batch.float().mean(dim=(1, 2, 3), keepdim=True)
    bright, contrast = (draws[index][:, None, None, None] for index in (0, 1))
    wanted = bright * (contrast * batch.float() + (1 - contrast) * mean)
    torch.testing.assert_close(found.float(), wanted.round().clamp(0, 255), atol=1.0, rtol=0)


def test_mixup_is_a_weighted_mean_of_two_images() -> None:
    batch = _batch()
    mixed, partners, share = Mixing(mixup=0.4)(batch, torch.Generator().manual_seed(0))
    wanted = share * batch.float() + (1 - share) * batch[partners].float()
    torch.testing.assert_close(mixed.float(), wanted, atol=0.51, rtol=0)
    assert sorted(partners.tolist()) == list(range(40))


def test_cutmix_takes_a_rectangle_of_the_other_image() -> None:
    batch = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 16, 20, 3).contiguous()
    shares = []
    for seed in range(20):
        mixed, partners, share = Mixing(cutmix=1.0)(batch, torch.Generator().manual_seed(seed))
        other = partners[:, None, None, None]
        assert bool(((mixed == batch) | (mixed == other)).all())
        moved = partners != torch.arange(40)
        own = (mixed == batch)[moved].float().mean(dim=(1, 2, 3))
        torch.testing.assert_close(own, torch.full_like(own, share), atol=1e-5, rtol=0)
        shares.append(share)
    assert min(shares) < 0.3
    assert max(shares) > 0.7


def test_with_both_some_batches_are_mixed_and_some_are_cut() -> None:
    batch = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 8, 8, 1).contiguous()
    even = [
        bool((mixed.amax(dim=(1, 2, 3)) == mixed.amin(dim=(1, 2, 3))).all())
        for mixed, _, _ in (
            Mixing(mixup=1.0, cutmix=1.0)(batch, torch.Generator().manual_seed(s)) for s in range(40)
        )
    ]
    assert 8 < sum(even) < 32
    assert not Mixing().active
