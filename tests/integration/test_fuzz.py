"""A few seconds of what `scripts/fuzz` does for long, and that its judges can condemn."""

import asyncio

import numpy as np
import pytest

from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.errors import PayloadError

PATIENCE_S = 60


@pytest.fixture(scope="module")
def load(from_benchmarks):
    return from_benchmarks


def test_payloads_are_decoded_or_refused(load, tmp_path):
    found = load("_fuzz.payload_run").run_payloads(tmp_path, payloads=6_000, seconds=PATIENCE_S, seed=11)
    assert found["violations"] == []
    assert found["payloads"] == 6_000
    kinds = {kind.partition(":")[0] for kind in found["outcomes"]}
    assert kinds == {"well-formed", "resealed", "header", "mutated", "body", "random", "truncated"}
    assert found["outcomes"]["resealed: decoded"] > 50, "altered payloads must get as far as the decoders"
    assert "well-formed: refused" not in found["outcomes"]
    assert found["compared_with_numpy"] > 300
    assert len(found["refusals"]) >= 15


def test_the_c_coder_under_sanitisers(load, tmp_path):
    coder = load("_fuzz.sanitised").build_coder(tmp_path)
    if coder is None:
        pytest.skip("needs GCC with its sanitisers")
    run = load("_fuzz.payload_run").run_payloads
    found = run(tmp_path, payloads=1_500, seconds=PATIENCE_S, seed=12, coder=coder)
    assert found["violations"] == []
    assert (found["payloads"], found["coder"]) == (1_500, "c")


def test_calls_end_with_a_documented_status(load, tiny_bundle):
    found = load("_fuzz.request_run").send_requests(tiny_bundle, calls=1_000, seconds=PATIENCE_S, seed=13)
    assert found["violations"] == []
    assert found["calls"] == 1_000
    assert found["outcomes"]["ok"] > 300
    for status in ("ModelInfer OK", "ModelInfer INVALID_ARGUMENT", "ModelStreamInfer INVALID_ARGUMENT"):
        assert found["statuses"][status] > 50


def test_inputs_are_the_same_for_the_same_seed(load, tiny_bundle):
    payloads, requests = (
        load("_fuzz.payload_inputs").PayloadInputs,
        load("_fuzz.request_inputs").RequestInputs,
    )
    bundle = load_bundle(tiny_bundle)
    for make in (payloads, lambda seed: requests(seed, bundle)):
        first, again, other = make(3), make(3), make(4)
        drawn = [first.next() for _ in range(200)]
        assert drawn == [again.next() for _ in range(200)]
        assert drawn != [other.next() for _ in range(200)]


@pytest.mark.parametrize(
    ("decode", "violation"),
    [
        (lambda decoded: 1 / 0, "ZeroDivisionError"),
        (lambda decoded: _raise(PayloadError("no idea")), "the message 'no idea'"),
        (lambda decoded: _raise(PayloadError("payload: two\nlines")), "the message"),
        (lambda decoded: _altered(decoded), "its latent is coded to"),
    ],
)
def test_a_broken_decoder_is_condemned(load, monkeypatch, decode, violation):
    check, inputs = load("_fuzz.payload_check"), load("_fuzz.payload_inputs")
    right = check.decode_payload
    monkeypatch.setattr(check, "decode_payload", lambda *args, **kwargs: decode(right(*args, **kwargs)))
    source, verdicts = inputs.sources()[0], check.PayloadVerdicts()
    one = inputs.PayloadInput("well-formed", source.tables, source.payloads[0])
    verdicts.judge(one, inputs.PayloadInputs(1).shape, both=False)
    assert violation in verdicts.violations[0]


def _raise(error):
    raise error


def _altered(decoded):
    latent = decoded.latent_chw.copy()
    latent.flat[0] ^= np.uint8(1)
    return type(decoded)(decoded.width_index, latent)


def test_coders_that_differ_are_condemned(load, monkeypatch):
    check, inputs = load("_fuzz.payload_check"), load("_fuzz.payload_inputs")
    source, verdicts = inputs.sources()[0], check.PayloadVerdicts()
    payload = next(one for one in source.payloads if one[1] & 0xF == 2)
    monkeypatch.setattr(check.RansCodec, "decode", lambda self, body, shape, *_: np.zeros(shape, np.uint8))
    monkeypatch.setattr(check, "decode_payload", _zeroless(check.decode_payload))
    verdicts.judge(
        inputs.PayloadInput("well-formed", source.tables, payload), inputs.PayloadInputs(1).shape, both=True
    )
    assert any("the two coders differ" in violation for violation in verdicts.violations)


def _zeroless(decode):
    def decoded(*args, **kwargs):
        found = decode(*args, **kwargs)
        return type(found)(found.width_index, np.ones_like(found.latent_chw))

    return decoded


def test_a_server_that_falls_ill_is_condemned(load, tiny_bundle, server_process):
    """Asked after while it drains, and when it is gone."""
    client_module, inputs = load("_fuzz.request_client"), load("_fuzz.request_inputs")

    async def play():
        server = server_process(tiny_bundle)
        try:
            made = inputs.RequestInputs(5, load_bundle(tiny_bundle))
            async with client_module.RequestClient(server.address, made) as client:
                await asyncio.to_thread(server.stop)
                await client._judge(inputs.RequestInput("ModelInfer", "good", (made.good,)))
                return client.verdicts
        finally:
            server.close()

    verdicts = asyncio.run(play())
    assert "UNAVAILABLE" in verdicts.violations[0]


def test_a_process_that_grows_is_condemned(load):
    growth = load("_fuzz.payload_run").growth
    assert growth(100 << 20, 132 << 20) == []
    assert growth(100 << 20, 133 << 20) == [f"memory grew from {100 << 20} to {133 << 20} bytes"]
