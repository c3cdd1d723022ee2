"""The server's certificate, replaced while it serves."""

import asyncio
import logging
import ssl

import pytest

from isthmus.runtime.errors import InputError
from isthmus.runtime.server import ServerConfig, TailServer
from isthmus.runtime.server.credentials import ServerCertificate
from isthmus.runtime.server.metrics import Metrics
from isthmus.runtime.wire import InferenceStub, oip, parse_stream_answer, payload_request
from isthmus.runtime.wire.certificate import peer_certificate, read_certificate

PATIENCE_S = 20


def test_a_renewed_pair_is_taken_and_a_half_written_one_waits(pki, caplog):
    made = pki.server(days=20)
    told = []
    served = ServerCertificate(made.certificate, made.key, told=told.append)
    assert served.not_after == made.not_after
    old = made.certificate.read_bytes()
    renewed = pki.server(days=40, renew=True)
    new = renewed.certificate.read_bytes()
    made.certificate.write_bytes(old)  # as if the key had been written, and the certificate not yet
    with caplog.at_level(logging.WARNING):
        assert served.not_after == made.not_after
        assert served.not_after == made.not_after
    assert [record.getMessage() for record in caplog.records if "stays in use" in record.getMessage()] != []
    assert len(caplog.records) == 1
    made.certificate.write_bytes(new)
    assert served.not_after == renewed.not_after
    assert served.trouble() == ""
    assert told == [made.not_after, renewed.not_after]


def test_files_that_do_not_fit_are_one_line(pki, tmp_path):
    server, other = pki.server(), pki.server("other")
    with pytest.raises(InputError, match=r"server\.pem: cannot be used with the key .*other\.key"):
        ServerCertificate(server.certificate, other.key)
    with pytest.raises(InputError, match="no PEM certificate"):
        ServerCertificate(server.key, server.key)
    with pytest.raises(InputError, match="No such file"):
        ServerCertificate(server.certificate, server.key, tmp_path / "absent.pem")
    server.key.chmod(0o644)
    with pytest.raises(InputError, match="everybody on this host may use it"):
        ServerCertificate(server.certificate, server.key)


async def test_a_certificate_is_replaced_under_load_without_losing_a_frame(
    start_server, tiny_bundle, pki, samples
):
    first = pki.server(days=20)
    running = await start_server(tiny_bundle, **pki.serving())
    address = f"127.0.0.1:{running.port}"
    stop, answered = asyncio.Event(), 0

    async def stream(security):
        nonlocal answered
        sent = got = 0
        async with security.channel(address) as channel:
            call = InferenceStub(channel).ModelStreamInfer()
            while not stop.is_set():
                request = payload_request(
                    model="tiny", frame_id=str(sent), payloads=[samples.payload(0)], budget_us=None
                )
                await call.write(request)
                sent += 1
                answer = parse_stream_answer(await call.read())
                assert answer.outcome == "ok"
                got += 1
                answered += 1
                await asyncio.sleep(0)
        assert sent == got > 0

    async def reach(frames):
        for _ in range(int(PATIENCE_S / 0.01)):
            if answered >= frames:
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"{answered} frames answered, {frames} wanted")

    streams = [asyncio.create_task(stream(pki.client(f"camera-{number}"))) for number in range(3)]
    await reach(30)
    before = await asyncio.to_thread(peer_certificate, "127.0.0.1", running.port)
    renewed = pki.server(days=40, renew=True)
    after = await asyncio.to_thread(peer_certificate, "127.0.0.1", running.port)
    async with pki.client("newcomer").channel(address) as channel:
        assert (await InferenceStub(channel).ServerLive(oip.ServerLiveRequest())).live
    await reach(answered + 30)
    stop.set()
    await asyncio.gather(*streams)
    assert before != after
    assert ssl.DER_cert_to_PEM_cert(after) == renewed.certificate.read_text()
    assert read_certificate(renewed.certificate).not_after > first.not_after
    assert running.server.certificate_not_after == renewed.not_after


async def test_the_certificates_end_is_a_metric(tiny_bundle, pki):
    pytest.importorskip("prometheus_client", reason="needs the extra 'server'")
    made = pki.server(days=20)
    metrics = Metrics()
    TailServer(ServerConfig(bundles=(tiny_bundle,), port=0, **pki.serving()), recorders=[metrics])
    shown = metrics.registry.get_sample_value("isthmus_certificate_not_after_seconds")
    assert shown == made.not_after.timestamp()
