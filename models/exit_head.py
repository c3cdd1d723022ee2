"""The early exit: the device's own answer, from the latent that it would send."""

from __future__ import annotations

from torch import Tensor, nn


class ExitHead(nn.Module):
    """Real latent → logits, on the device."""

    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        """Take the real latent's channels, the hidden ones and the number of classes."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.linear = nn.Linear(hidden, classes)

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return logits [n, classes]."""
        hidden = self.conv2(self.conv1(z_nchw).relu()).relu()
        hidden = (self.conv3(hidden) + hidden).relu()
        logits: Tensor = self.linear(hidden.mean(dim=(2, 3)))
        return logits
