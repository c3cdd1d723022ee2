"""A network split by a learned bottleneck: encoder, quantiser, decoder, tail after the cut, early exit.

The teacher is kept, frozen, for distillation, parity checks and the device's own answer. Everything that is
exported leaves through the `materialise_*` methods as plain modules with uint8 at the boundary.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.models.calibration import calibrated_parts, calibration
from isthmus.models.config import SplitConfig
from isthmus.models.cutting import split_in_order
from isthmus.models.exit_head import ExitHead
from isthmus.models.families import family_named
from isthmus.models.quantise import prefix_mask


class Normalise(nn.Module):
    """Image uint8 [n, h, w, c] → normalised float32 [n, c, h, w]."""

    gain: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take mean and standard deviation per channel, on pixels scaled to [0, 1]."""
        super().__init__()
        std_c = torch.tensor(std, dtype=torch.float64)
        shape = (1, len(std), 1, 1)
        self.register_buffer("gain", (1 / (255 * std_c)).float().reshape(shape))
        self.register_buffer(
            "offset", (-torch.tensor(mean, dtype=torch.float64) / std_c).float().reshape(shape)
        )

    def forward(self, image_nhwc: Tensor) -> Tensor:
        """Return the normalised image."""
        return image_nhwc.permute(0, 3, 1, 2).float() * self.gain + self.offset


class SplitNetwork(nn.Module):
    """A teacher, cut, with the bottleneck that replaces everything through the cut.

    Attributes:
        config: The facts it was built from.
        teacher: The uncut network, frozen.
        teacher_head: Its layers through the cut.
        teacher_tail, tail: Its layers after the cut, one segment per later level: the teacher's own, and the
            student's, which is the same object unless `config.tail_tuned`.
    """

    def __init__(self, config: SplitConfig, teacher: nn.Module) -> None:
        """Build untrained parts around `teacher`, which is frozen and put into evaluation mode.

        Raises:
            PlanError: If the config's cut does not fit the teacher or the latent.
        """
        super().__init__()
        self.config = config
        self.teacher = teacher.eval().requires_grad_(False)
        self.normalise = Normalise(config.mean, config.std)
        self.teacher_head, *rest = split_in_order(self.teacher, (config.cut, *config.later_levels))
        # The segments share the teacher's layers: a tail that is tuned must be its own.
        self.teacher_tail = nn.Sequential(*rest)
        self.tail = copy.deepcopy(self.teacher_tail) if config.tail_tuned else self.teacher_tail
        self.tail.eval().requires_grad_(config.tail_tuned)
        self.family = family_named(config.family)
        self.encoder = self.family.encoder(config)
        self.quantiser = self.family.quantiser(config)
        self.decoder = self.family.decoder(config)
        self.exit_head = (
            ExitHead(self.quantiser.real_channels, config.exit_channels, len(config.labels))
            if config.exit_channels
            else None
        )

    @property
    def zero_points(self) -> tuple[int, ...]:
        """The code of an absent value, per latent channel."""
        return (self.quantiser.zero_point,) * self.config.channels

    def train(self, mode: bool = True) -> SplitNetwork:
        """Switch the bottleneck's mode; teacher and tail keep their BatchNorm statistics, always."""
        super().train(mode)
        for frozen in (self.teacher, self.teacher_head, self.teacher_tail, self.tail):
            frozen.eval()
        return self

    @torch.no_grad()
    def codes(self, image_nhwc: Tensor, width_index: int) -> Tensor:
        """Return the uint8 latent [n, C, h, w] of uint8 images, as the exported head would.

        Raises:
            GateError: If that width was never calibrated.
        """
        return self.quantiser.codes(self.encoder(self.normalise(image_nhwc), width_index))

    @torch.no_grad()
    def logits(self, codes_nchw: Tensor, channels: int | None = None) -> Tensor:
        """Return the tail's logits for uint8 codes of which only the first `channels` arrived."""
        return self._answer(codes_nchw, channels, nn.Sequential(self.decoder, self.tail))

    @torch.no_grad()
    def exit_logits(self, codes_nchw: Tensor) -> Tensor | None:
        """Return the early exit's logits for uint8 codes, or None without an exit."""
        return self._answer(codes_nchw, None, self.exit_head) if self.exit_head is not None else None

    def _answer(self, codes_nchw: Tensor, channels: int | None, rest: nn.Module) -> Tensor:
        levels = codes_nchw.float() - self.quantiser.zero_point
        if channels is not None:
            counts = torch.full((len(levels),), channels, device=levels.device)
            levels = levels * prefix_mask(counts, self.config.channels)
        logits: Tensor = rest(self.quantiser.dequantised(levels))
        return logits.float()

    @torch.no_grad()
    def calibrate(self, batches_nhwc: Sequence[Tensor]) -> None:
        """Measure all statistics, of every width, on the uint8 image batches given.

        Each part is measured on what the finished parts before it give.
        """
        was_training = self.training
        self.eval()
        for part in (self.encoder, self.quantiser, self.decoder):
            if not calibrated_parts(part):
                continue
            with calibration(part):
                for width_index in range(len(self.config.widths)):
                    for batch_nhwc in batches_nhwc:
                        self._run_through(part, batch_nhwc, width_index)
        self.train(was_training)

    def _run_through(self, last: nn.Module, image_nhwc: Tensor, width_index: int) -> None:
        """Run a batch through the bottleneck's parts up to `last`."""
        latent_nchw = self.encoder(self.normalise(image_nhwc), width_index)
        if last is self.quantiser:
            self.quantiser.observe(latent_nchw, width_index)
        elif last is self.decoder:
            quantiser = self.quantiser
            self.decoder(quantiser.dequantised(quantiser.rounded(quantiser.levels(latent_nchw))))

    def materialise_head(self, width_index: int) -> nn.Module:
        """Return uint8 [n, H, W, c] → uint8 [n, C, h, w] at one width, as plain convolutions.

        Raises:
            GateError: If that width was never calibrated.
        """
        parts = (copy.deepcopy(self.normalise), self.family.materialise(self.encoder, width_index))
        return _frozen(nn.Sequential(*parts, self.quantiser.materialise_codes()))

    def materialise_tail(self) -> nn.Module:
        """Return uint8 [n, C, h, w], absent channels at the zero point → logits float32 [n, classes]."""
        rest = (self.family.materialise_decoder(self.decoder), copy.deepcopy(self.tail))
        return _frozen(nn.Sequential(self.quantiser.materialise_reals(), *rest))

    def materialise_exit(self) -> nn.Module | None:
        """Return uint8 [n, C, h, w] → logits float32 [n, classes] on the device, or None without an exit."""
        if self.exit_head is None:
            return None
        return _frozen(nn.Sequential(self.quantiser.materialise_reals(), copy.deepcopy(self.exit_head)))

    def materialise_teacher(self) -> nn.Module:
        """Return uint8 [n, H, W, c] → logits of the uncut network."""
        return _frozen(nn.Sequential(copy.deepcopy(self.normalise), copy.deepcopy(self.teacher)))


def _frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def tensor_digest(module: nn.Module) -> str:
    """Return the first 16 hex digits of the SHA-256 over the names and bytes of `module`'s state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
