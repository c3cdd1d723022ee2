"""Every way in which two ends do not trust each other is one exact line; real handshakes on loopback."""

import re

import grpc
import pytest

from isthmus.runtime.errors import AccessError
from isthmus.runtime.server import ServerConfig, TailServer
from isthmus.runtime.wire import InferenceStub, diagnosis, oip
from isthmus.runtime.wire.diagnosis import why_no_connection
from isthmus.runtime.wire.tls import ClientSecurity


@pytest.fixture
async def serve(tiny_bundle):
    """Return `await serve(**config) -> address`."""
    servers = []

    async def start(**changes):
        servers.append(TailServer(ServerConfig(bundles=(tiny_bundle,), port=0, threads=1, **changes)))
        return f"127.0.0.1:{(await servers[-1].start()).port}"

    yield start
    for server in servers:
        server.hurry()
        await server.drain()


async def why(address, security):
    """Return why a call to `address` fails; None if the reason is not one of trust."""
    async with security.channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await InferenceStub(channel).ServerLive(oip.ServerLiveRequest(), timeout=10)
    found = await why_no_connection(caught.value, address, security)
    assert found is None or isinstance(found, AccessError)
    return None if found is None else str(found).removeprefix(f"server {address}: ")


async def test_a_plain_client_at_a_tls_server(serve, pki):
    address = await serve(**pki.serving(mutual=False))
    assert await why(address, ClientSecurity()) == (
        "it speaks TLS, and this end plain text; give --authority with the file that vouches for it"
    )


async def test_a_tls_client_at_a_plain_server(serve, pki):
    assert await why(await serve(), pki.client()) == (
        "it speaks plain text, and this end TLS; serve with --certificate and --key there, or give "
        "--insecure on a network you trust"
    )


async def test_another_authority(serve, pki, pki_module, tmp_path):
    address = await serve(**pki.serving())
    other = pki_module.Pki(tmp_path / "other")
    line = await why(address, pki.client(authority=other.authority))
    assert re.fullmatch(
        rf"its certificate is not one that {re.escape(str(other.authority))} vouches for \([^;]+\); give "
        r"--authority with the file of the server's own authority",
        line,
    )
    line = await why(address, pki.client(authority=None))
    assert line.startswith("its certificate is not one that this system trusts (")


async def test_another_host_name(serve, pki):
    pki.server(hosts=("tail.example",))
    assert await why(await serve(**pki.serving()), pki.client()) == (
        "its certificate is not for the name '127.0.0.1'; use a name that it is for, or make it another with "
        "'isthmus certs server NAME --host 127.0.0.1'"
    )


async def test_an_expired_server(serve, pki):
    made = pki.server(days=-0.01)
    assert await why(await serve(**pki.serving()), pki.client()) == (
        f"its certificate expired on {made.not_after:%Y-%m-%d %H:%M} UTC; it must be renewed there, unless "
        "this clock is wrong"
    )


async def test_a_client_without_a_certificate(serve, pki):
    assert await why(await serve(**pki.serving()), pki.client(None)) == (
        "it wants a certificate of this client; give --certificate and --key"
    )


async def test_an_expired_client(serve, pki):
    made = pki.device(days=-0.01)
    assert await why(await serve(**pki.serving()), pki.client()) == (
        f"it refused this client's certificate {made.certificate}, which expired on "
        f"{made.not_after:%Y-%m-%d %H:%M} UTC; make another with 'isthmus certs device NAME --renew'"
    )


@pytest.mark.parametrize("kind", ["of another authority", "for servers"])
async def test_a_client_of_another_kind(serve, pki, pki_module, tmp_path, kind):
    address = await serve(**pki.serving())
    if kind == "for servers":
        made = pki.folder / "server.pem"
    else:
        made = pki_module.Pki(tmp_path / "other").device().certificate
    security = pki.client(None, certificate=made, key=made.with_suffix(".key"))
    assert await why(address, security) == (
        f"it refused this client's certificate {made}; use one of the authority that the server was given "
        "with --client-authority"
    )


async def test_a_key_of_another_certificate(serve, pki):
    address = await serve(**pki.serving())
    other = pki.device("camera-2")
    # gRPC itself does not even try with such a pair.
    line = diagnosis.diagnose(address, pki.client(key=other.key))
    assert line.startswith("the files of --authority, --certificate and --key cannot be used (")


async def test_what_is_not_about_trust_is_left_alone(serve, pki):
    address = await serve()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with ClientSecurity().channel(address) as channel:
            await InferenceStub(channel).ModelMetadata(oip.ModelMetadataRequest(name="absent"), timeout=10)
    assert await why_no_connection(caught.value, address, ClientSecurity()) is None
    assert await why("127.0.0.1:9", ClientSecurity()) is None
    assert await why("127.0.0.1:9", pki.client()) is None
