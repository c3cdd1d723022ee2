"""Findings about servers that are there, not there, and not what they should be."""

import socket

import pytest

from isthmus.device_agents.doctor import examine_server
from isthmus.device_agents.doctor import servers as servers_module
from isthmus.device_agents.operation.link_test import LinkReport
from isthmus.runtime.wire import oip_pb2 as oip


async def _examine(address, *, model="tiny", manifest=None, deadline_s=0.15, **changes):
    return await examine_server(
        address, model=model, manifest=manifest, deadline_s=deadline_s, timeout_s=2.0, **changes
    )


@pytest.fixture(autouse=True)
def _live(monkeypatch, scripted_server_class):
    async def live(self, request, context):
        return oip.ServerLiveResponse(live=True)

    monkeypatch.setattr(scripted_server_class, "ServerLive", live)


async def test_a_good_server(scripted_server, tiny):
    server = await scripted_server()
    findings = await _examine(server.address, manifest=tiny.manifest)
    assert [finding.level for finding in findings] == ["ok", "ok"]
    assert "model 'tiny', payloads over a stream" in findings[0].text
    assert "RTT" in findings[1].text


@pytest.mark.parametrize(
    ("there", "level", "text"),
    [
        ("here", "ok", "the same as here"),
        ("ab" * 32, "fail", "another export: abababababab there, "),
        (None, "ok", "does not say which it is"),
    ],
)
async def test_the_server_must_serve_the_very_bundle(scripted_server, tiny, there, level, text):
    server = await scripted_server()
    described = type(server).ModelMetadata

    async def with_digest(self, request, context):
        response = await described(self, request, context)
        if there is not None:
            digest = tiny.digest if there == "here" else there
            response.parameters["isthmus_bundle"].string_param = digest
        return response

    server.ModelMetadata = with_digest.__get__(server)
    await server.stop()
    server = await server.start()
    findings = await _examine(server.address, manifest=tiny.manifest, digest=tiny.digest)
    assert [finding.level for finding in findings] == ["ok", level, "ok"]
    assert text in findings[1].text


async def test_a_server_that_is_not_ready_fails(scripted_server):
    server = await scripted_server(ready=False)
    findings = await _examine(server.address)
    assert (findings[0].level, findings[0].text.endswith("not ready")) == ("fail", True)


async def test_a_server_without_the_model_or_with_another(scripted_server, tiny):
    server = await scripted_server(models={"tiny": (-1, 9, 9, 9)})
    (other,) = await _examine(server.address, manifest=tiny.manifest)
    assert other.level == "fail"
    assert "takes latents (9, 9, 9)" in other.text
    (lacking,) = await _examine(server.address, model="absent")
    assert (lacking.level, "has no model 'absent'" in lacking.text) == ("fail", True)
    unknown, link = await _examine(server.address, model="")
    assert (unknown.level, link.level) == ("warn", "ok")


async def test_no_server(unused_tcp_port):
    (finding,) = await _examine(f"127.0.0.1:{unused_tcp_port}")
    assert (finding.level, "cannot be reached" in finding.text) == ("fail", True)
    assert "isthmus serve" in finding.remedy


async def test_a_link_longer_than_the_deadline_fails(scripted_server):
    server = await scripted_server()
    findings = await _examine(server.address, deadline_s=1e-6)
    assert findings[-1].level == "fail"
    assert "longer than the deadline" in findings[-1].text


async def test_a_tls_server_is_told_from_a_plain_one(tls_server):
    (finding,) = await _examine(tls_server)
    assert finding.level == "fail"
    assert "speaks TLS" in finding.text
    assert "--authority" in finding.remedy


async def test_a_good_tls_server_and_its_certificate(tls_server, pki, tiny):
    found = await _examine(tls_server, manifest=tiny.manifest, security=pki.client())
    assert [finding.level for finding in found] == ["ok", "warn", "ok"]
    assert found[1].text.startswith("expires on ")
    assert "renew" in found[1].remedy


async def test_a_server_that_does_not_know_this_device(tls_server, pki):
    (finding,) = await _examine(tls_server, security=pki.client(None))
    assert finding.level == "fail"
    assert finding.text == "it wants a certificate of this client"
    assert finding.remedy == "give --certificate and --key"


@pytest.fixture
def unused_tcp_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
async def tls_server(pki, tiny_bundle):
    """The address of a server of ours that wants clients' certificates; its own ends in ten days."""
    from isthmus.runtime.server import ServerConfig, TailServer

    pki.server(days=10)
    server = TailServer(ServerConfig(bundles=(tiny_bundle,), port=0, threads=1, **pki.serving()))
    yield f"127.0.0.1:{(await server.start()).port}"
    server.hurry()
    await server.drain()


def test_link_text_without_a_rate():
    report = LinkReport(
        server="x:1", rtt_s=(0.01, 0.02, 0.05), rates=(), clock="server", sent_bytes=0, elapsed_s=1
    )
    assert servers_module.link_text(report) == "RTT 20 ms (up to 50 ms), uplink not measured"
