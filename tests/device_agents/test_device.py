"""What the device computes: the payload decodes to what the head gave."""

import numpy as np
import pytest

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.device import Device, Encoded, OwnAnswer
from isthmus.runtime.bundle import TABLES, OperatingPoint
from isthmus.runtime.codecs import FrequencyTables, decode_payload
from isthmus.runtime.control import Decision
from isthmus.runtime.errors import InputError


@pytest.fixture(scope="module")
def bank(tiny):
    return WidthBank(tiny)


def _decision(action, point=None):
    return Decision(action=action, point=point, probe=False, expected_utility=1.0, reason="")


def _send(width_index, channels):
    return _decision("send", OperatingPoint(width_index, channels))


@pytest.mark.parametrize("codec", [None, "raw", "rans"])
def test_a_payload_holds_the_leading_channels_of_its_point(tiny, bank, tiny_images, codec):
    device = Device(tiny, bank, codec=codec)
    image = tiny_images[0][0]
    encoded = device.compute(_send(2, 2), image, True)
    assert encoded.payload is not None
    assert encoded.plain_nchw is None
    assert encoded.nbytes == len(encoded.payload)
    tables = FrequencyTables.from_bytes(tiny.read(TABLES))
    decoded = decode_payload(encoded.payload, tables=tables, max_latent_bytes=1000)
    assert decoded.width_index == 2
    np.testing.assert_array_equal(decoded.latent_chw, bank.head(2, image)[0][:2])
    np.testing.assert_array_equal(encoded.latent_chw, bank.head(2, image)[0])
    assert device.codec == (codec or tiny.manifest.codecs[0])


def test_a_plain_latent_has_every_channel_and_the_absent_ones_at_their_zero_point(tiny, bank, tiny_images):
    device = Device(tiny, bank)
    encoded = device.compute(_send(3, 2), tiny_images[0][0], False)
    plain = encoded.plain_nchw
    assert plain is not None
    assert encoded.payload is None
    assert plain.shape == (1, 4, 4, 4)
    assert plain.dtype == np.uint8
    assert encoded.nbytes == 64
    np.testing.assert_array_equal(plain[0, :2], encoded.latent_chw[:2])
    assert not np.array_equal(plain[0, 2:], encoded.latent_chw[2:])
    for channel in (2, 3):
        assert (plain[0, channel] == tiny.manifest.latent.zero_points[channel]).all()


def test_the_state_states_what_is_measured(tiny, bank, serverless_mute, tiny_images):
    device = Device(tiny, bank)
    assert device.state(server_s=0.0).encode_s == 0.0
    device.compute(_send(0, 1), tiny_images[0][0], True)
    state = device.state(server_s=0.25)
    assert state.encode_s > 0
    assert state.server_s == 0.25
    assert state.head_s == bank.head_s
    mute = Device(serverless_mute, WidthBank(serverless_mute)).state(server_s=0.0)
    assert mute.exit_s is None
    assert mute.local_s is None


def test_exit_and_local_agree_with_the_bank(tiny, bank, tiny_images):
    device = Device(tiny, bank)
    image = tiny_images[0][1]
    latent, _ = bank.head(0, image)
    from_exit = device.compute(_decision("exit", OperatingPoint(0, 4)), image, True)
    assert isinstance(from_exit, OwnAnswer)
    assert (from_exit.kind, from_exit.answer) == ("exit", bank.exit(latent)[0])
    assert from_exit.head_s > 0
    assert device.answer("exit", image, latent)[0] == bank.exit(latent)[0]
    from_local = device.compute(_decision("local"), image, True)
    assert (from_local.kind, from_local.head_s) == ("local", None)
    assert device.answer("local", image, latent)[0] == from_local.answer == bank.local(image)[0]


def test_the_exit_answers_only_when_it_is_sure_enough(tiny, bank, tiny_images):
    device = Device(tiny, bank)
    seen = set()
    for image in tiny_images[0][:12]:
        scores, _ = bank.exit_scores(bank.head(3, image)[0])
        powers = np.exp(scores.astype(np.float64))
        share = float(powers.max() / powers.sum())
        below = device.compute(_send(3, 4), image, True, confidence=share - 1e-6)
        assert isinstance(below, OwnAnswer)
        assert below.confidence == pytest.approx(share)
        assert below.answer == int(scores.argmax())
        assert isinstance(device.compute(_send(3, 4), image, True, confidence=share + 1e-6), Encoded)
        seen.add(round(share, 3))
    assert len(seen) > 3


def test_how_long_computing_takes_is_known_before(tiny, bank):
    device = Device(tiny, bank)
    assert device.seconds_of(_decision("local")) == bank.local_s
    assert device.seconds_of(_send(3, 4)) == pytest.approx(bank.head_s[3] + bank.exit_s)


def test_a_codec_the_bundle_does_not_offer_is_refused(tiny, bank):
    with pytest.raises(
        InputError, match="codec 'bitshuffle-lz4': bundle tiny and this Isthmus share rans, raw"
    ):
        Device(tiny, bank, codec="bitshuffle-lz4")
