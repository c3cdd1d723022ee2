"""Bundles loaded, replaced and taken away while frames come: none is lost, a broken one changes nothing."""

import asyncio
import shutil

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from isthmus.runtime.errors import BundleError, InputError, UnknownModelError
from isthmus.runtime.server.shelf import Shelf
from isthmus.runtime.wire import latent_request, parse_answer, parse_stream_answer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _frame(frame_id="1", model="tiny"):
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    return latent_request(model=model, frame_id=frame_id, latent_nchw=latent, budget_us=None)


async def _scores(server, model="tiny"):
    return parse_answer(await server.stub.ModelInfer(_frame(model=model))).outputs_nc


async def _health(server, name):
    stub = health_pb2_grpc.HealthStub(server.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


def _replace(bundle, other):
    """Put the bundle `other` where `bundle` is, its manifest last, as an export does."""
    for file in other.rglob("*"):
        if file.is_file() and file.name != "manifest.json":
            shutil.copy(file, bundle / file.relative_to(other))
    shutil.copy(other / "manifest.json", bundle / "manifest.partial")
    (bundle / "manifest.partial").replace(bundle / "manifest.json")


@pytest.fixture
def mine(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "mine")


@pytest.fixture(scope="module")
def newer(make_tiny_bundle, tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("newer") / "tiny", seed=9)


async def test_a_changed_bundle_is_served_from_then_on(start_server, mine, newer):
    server = await start_server(mine)
    before = await _scores(server)
    assert await server.server.reload() == ()
    _replace(mine, newer)
    assert await server.server.reload() == ("tiny",)
    after = await _scores(server)
    assert not np.allclose(before, after)
    assert await server.server.reload() == ()


async def test_a_reload_loses_no_frame_of_a_running_stream(start_server, mine, newer):
    server = await start_server(mine)
    call = server.stub.ModelStreamInfer()
    frames, reloads = 400, 0
    reloaded = asyncio.Event()

    async def write():
        for number in range(frames):
            if number == 300:  # a quick server would have answered all of them by then
                await reloaded.wait()
            await call.write(_frame(str(number)))
        await call.done_writing()

    writing = asyncio.create_task(write())
    answers = []
    while len(answers) < frames:
        answers.append(parse_stream_answer(await call.read()))
        if len(answers) in (100, 200):
            _replace(mine, newer)
            reloads += len(await server.server.reload())
            reloaded.set()
    await writing
    assert reloads == 1
    assert {answer.outcome for answer in answers} == {"ok"}
    assert sorted(int(answer.frame_id) for answer in answers) == list(range(frames))
    assert len({tuple(answer.outputs_nc[0].round(4)) for answer in answers}) == 2, "old and new both answered"


async def test_frames_in_flight_end_on_the_old_model(start_server, mine, newer, make_gated_backend):
    backend = make_gated_backend()
    server = await start_server(mine, backend=backend)
    service = server.server._service
    old = service.model("tiny")
    stuck = server.stub.ModelInfer(_frame())
    await backend.started()
    _replace(mine, newer)
    assert await service.reload("tiny")
    assert service.model("tiny") is not old
    backend.let(1)
    assert parse_answer(await stuck).outcome == "ok"


async def test_a_frame_that_fails_by_a_bug_of_ours_is_not_in_flight_for_ever(
    start_server, mine, newer, monkeypatch
):
    server = await start_server(mine)
    service = server.server._service
    old = service.model("tiny")
    monkeypatch.setattr(old, "check", lambda frame: 1 / 0)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await server.stub.ModelInfer(_frame())
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    assert failed.value.details() == "internal error; see the server's log"
    await asyncio.wait_for(old.retire(), 20)


async def test_a_broken_bundle_leaves_the_old_one_serving_and_says_so(start_server, mine, newer, caplog):
    server = await start_server(mine)
    before = await _scores(server)
    _replace(mine, newer)
    tail = bytearray((mine / "tail.onnx").read_bytes())
    tail[50] ^= 1
    (mine / "tail.onnx").write_bytes(tail)
    assert await server.server.reload() == ()
    assert "tiny: not reloaded, the one before is still served:" in caplog.text
    np.testing.assert_array_equal(await _scores(server), before)
    (state,) = server.server._service.index()
    assert (state.name, state.ready) == ("tiny", True)
    assert "SHA-256 differs" in state.reason


async def test_a_watched_bundle_is_reloaded_by_itself(start_server, mine, newer):
    server = await start_server(mine, watch=True)
    before = await _scores(server)
    _replace(mine, newer)

    async def changed():
        # Of the file system there is no event to wait for.
        while np.allclose(before, await _scores(server)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    await asyncio.wait_for(changed(), 60)


async def test_models_of_a_repository_come_and_go(start_server, make_tiny_bundle, tmp_path):
    repository = tmp_path / "repository"
    make_tiny_bundle(repository / "a", name="first")
    server = await start_server(repository=repository)
    service = server.server._service
    assert server.models == ("first",)
    make_tiny_bundle(repository / "b", name="second", seed=4)
    assert [(state.name, state.ready) for state in service.index()] == [("first", True), ("second", False)]
    await service.load("second")
    assert await _health(server, "second") == SERVING
    assert (await _scores(server, "second")).shape == (1, 3)
    await service.unload("first")
    assert await _health(server, "first") == NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await _scores(server, "first")
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(UnknownModelError):
        await service.unload("first")
    with pytest.raises(UnknownModelError):
        await service.load("third")
    await service.load("first")
    assert (await _scores(server, "first")).shape == (1, 3)


async def test_what_a_model_did_is_counted(start_server, tiny_bundle):
    server = await start_server(tiny_bundle)
    for _ in range(3):
        await _scores(server)
    bad = np.zeros((1, 9, 4, 4), np.uint8)
    request = latent_request(model="tiny", frame_id="x", latent_nchw=bad, budget_us=None)
    with pytest.raises(grpc.aio.AioRpcError):
        await server.stub.ModelInfer(request)
    counted = server.server._service.statistics("tiny")
    assert (counted.success.count, counted.fail.count, counted.latents, counted.executions) == (3, 1, 3, 3)
    assert counted.success.ns >= counted.compute.ns > 0


def test_a_shelf_finds_bundles_by_their_own_names(tiny_bundle, tmp_path):
    repository = tmp_path / "r"
    shutil.copytree(tiny_bundle, repository / "folder")
    (repository / "no bundle").mkdir()
    shelf = Shelf((), repository)
    assert shelf.names() == ("tiny",)
    assert shelf.load("tiny").root == repository / "folder"
    (repository / "folder" / "manifest.json").write_text("{")
    assert shelf.names() == ()
    assert shelf.load_all() == []
    with pytest.raises(BundleError, match="not a valid manifest"):
        shelf.load("folder")


def test_a_repository_that_is_no_directory_is_one_line(tmp_path):
    with pytest.raises(InputError) as refused:
        Shelf((), tmp_path / "none").load_all()
    assert str(refused.value) == (
        f"{tmp_path / 'none'}: no such directory; give --repository a folder of bundles"
    )
