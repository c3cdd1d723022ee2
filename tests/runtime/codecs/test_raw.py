"""The raw codec."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.runtime.codecs.raw import RawCodec
from isthmus.runtime.errors import PayloadError


def test_the_body_is_the_latent_channel_major() -> None:
    assert RawCodec().encode(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), None, 0) == bytes(range(8))


def test_another_length_is_refused() -> None:
    with pytest.raises(PayloadError, match=r"^payload: raw body of 7 bytes for a latent of 8$"):
        RawCodec().decode(bytes(7), (2, 2, 2), None, 0)
