import pytest

from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.server import ServerConfig


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_tls(host, tmp_path):
    assert ServerConfig(bundles=(tmp_path,), host=host).host == host


def test_an_address_is_written_as_grpc_takes_it(tmp_path):
    assert ServerConfig(bundles=(tmp_path,), port=7).address == "127.0.0.1:7"
    assert ServerConfig(bundles=(tmp_path,), host="::1", port=7).address == "[::1]:7"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_beyond_loopback_needs_tls_or_insecure(host, tmp_path):
    with pytest.raises(InputError) as refused:
        ServerConfig(bundles=(tmp_path,), host=host)
    assert str(refused.value) == (
        f"--host {host} is reachable from other hosts; give --certificate and --key for TLS "
        "('isthmus certs' makes them), or say --insecure on a network you trust"
    )
    assert ServerConfig(bundles=(tmp_path,), host=host, insecure=True).host == host
    secured = {"certificate": tmp_path / "server.pem", "key": tmp_path / "server.key"}
    assert ServerConfig(bundles=(tmp_path,), host=host, **secured).host == host


def test_a_host_that_is_no_address_is_refused(tmp_path):
    with pytest.raises(NetworkError, match=r"^--host 300\.1\.1\.1: .*; give an address of this host$"):
        ServerConfig(bundles=(tmp_path,), host="300.1.1.1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 65_536}, "--port 65536 is out of range; give 0 to 65535"),
        ({"port": -1}, "--port -1 is out of range; give 0 to 65535"),
        ({"threads": 0}, "--threads 0 is out of range; give 1 to 1024"),
        ({"max_batch": 0}, "--max-batch 0 is out of range; give 1 to 4096"),
        ({"queue_frames": 0}, "--queue 0 is out of range; give 1 to 1000000"),
        (
            {"queue_frames": 8},
            "--queue 8 is less than --max-batch 32: a request of that many latents would never fit; "
            "give --queue 32 or more, or a smaller --max-batch",
        ),
        ({"stream_window": 0}, "stream_window 0 is out of range; give 1 to 100000"),
        ({"max_rpcs": 0}, "max_rpcs 0 is out of range; give 1 to 1000000"),
        (
            {"max_message_bytes": 10},
            "--max-message-bytes 10 is out of range; give 1024 to 1073741824",
        ),
        ({"grace_s": -1.0}, "--grace -1s is out of range; give 0s to 1h"),
        ({"grace_s": float("nan")}, "--grace nans is out of range; give 0s to 1h"),
        ({"bundles": ()}, "no bundle to serve; name at least one bundle directory, or give --repository"),
        ({"processes": 0}, "--processes 0 is out of range; give 1 to 256"),
        ({"metrics_port": 70_000}, "--metrics-port 70000 is out of range; give 0 to 65535"),
        ({"max_connections": 0}, "--max-connections 0 is out of range; give 1 to 1000000"),
        ({"max_streams_per_client": 0}, "--max-streams-per-client 0 is out of range; give 1 to 100000"),
        ({"client_credit": 0}, "--client-credit 0 is out of range; give 1 to 1000000"),
        ({"backend": "tf"}, "--backend 'tf' is unknown; give auto, onnxruntime, torch"),
        ({"provider": "tpu"}, "--provider 'tpu' is unknown; give auto, cpu, cuda, tensorrt"),
        ({"precision": "int4"}, "--precision 'int4' is unknown; give fp32, bf16, fp16"),
        (
            {"precision": "bf16"},
            "--precision bf16 is for the torch backend; give --backend torch as well",
        ),
        (
            {"backend": "torch", "provider": "tensorrt"},
            "--provider tensorrt is for the onnxruntime backend; give cpu, cuda or auto",
        ),
        ({"key": "k"}, "--certificate and --key belong together; give both, or neither"),
        ({"client_authority": "a"}, "--client-authority needs TLS; give --certificate and --key as well"),
        (
            {"certificate": "c", "key": "k", "insecure": True},
            "--insecure is plain text and --certificate is TLS; give one of them",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError) as refused:
        ServerConfig(**{"bundles": (tmp_path,), **change})
    assert str(refused.value) == message


def test_a_repository_alone_is_enough(tmp_path):
    assert ServerConfig(repository=tmp_path).bundles == ()
