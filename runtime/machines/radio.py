"""What a device's radio costs: joules per byte, and watts while it stays awake after a transfer.

The model is the linear one of Huang et al. (MobiSys 2012, section 4): a radio that is awake draws a base
power, every byte costs a little more, and after the last byte it stays awake for its tail.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

Source = Literal["measured", "published", "scaled"]

_Figure = Annotated[float, msgspec.Meta(ge=0)]


class RadioModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A radio's energy. A model, never a measurement.

    Attributes:
        transmit_j_per_byte: Joules of a byte sent, beyond those of being awake.
        receive_j_per_byte: Joules of a byte received, likewise.
        tail_w: Watts above idle while the radio is awake.
        tail_s: Seconds for which it stays awake after the last transfer.
        source: Where the figures come from.
        origin: Who measured what, and how.
    """

    transmit_j_per_byte: _Figure
    receive_j_per_byte: _Figure
    tail_w: _Figure
    tail_s: _Figure
    source: Source
    origin: str = ""

    def transfer_j(self, sent_bytes: float, received_bytes: float, *, next_s: float = math.inf) -> float:
        """Return the joules of one transfer with what the radio draws awake until the next.

        Args:
            sent_bytes: Bytes sent, overhead included.
            received_bytes: Bytes received.
            next_s: Seconds until the next transfer begins; infinite: there is none.
        """
        bytes_j = sent_bytes * self.transmit_j_per_byte + received_bytes * self.receive_j_per_byte
        return bytes_j + self.tail_w * min(self.tail_s, max(0.0, next_s))

    def awake_s(self, transfers_s: Iterable[float], *, until_s: float = math.inf) -> float:
        """Return the seconds for which the radio was awake.

        Args:
            transfers_s: Instants of transfers, in rising order.
            until_s: Where the run ended: no tail is counted beyond it.
        """
        ends = itertools.pairwise([*transfers_s, until_s])
        return math.fsum(min(self.tail_s, max(0.0, after - before)) for before, after in ends)
