"""`isthmus.Agent` in somebody else's program, against a real server on loopback."""

import asyncio
import threading

import numpy as np
import pytest

import isthmus
from isthmus.device_agents.api import Agent
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.events import EndEvent, read_events

QUICK = {"deadline": "500ms", "retry_cap": "50ms", "thermal": "off"}


@pytest.fixture
def image(tiny_images):
    return tiny_images[0][0]


async def test_a_submitted_image_comes_back_with_the_servers_answer(scripted_server, tiny, image, tmp_path):
    server = await scripted_server()
    notes, results = [], []
    events = tmp_path / "events.jsonl"
    async with Agent(
        tiny.root,
        server=server.address,
        policy="fixed:3,4",
        events=events,
        on_note=notes.append,
        on_result=results.append,
        **QUICK,
    ) as agent:
        assert await agent.wait_connected(5)
        result = await agent.submit(image, truth=1)
    assert (result.outcome, result.answer, result.label, result.truth) == ("remote", 1, "top-right", 1)
    assert result.probabilities == pytest.approx(np.exp([0, 3, 1]) / np.exp([0, 3, 1]).sum())
    assert 0 < result.latency_s < 0.5
    assert result.payload_bytes > 28
    assert (result.point.width_index, result.point.channels) == (3, 4)
    assert results == [result]
    assert any("connected to scripted 1" in note for note in notes)
    assert agent.report.summary.accuracy == 1.0
    end = list(read_events(events))[-1]
    assert isinstance(end, EndEvent)
    assert end.captured == 1


async def test_images_submitted_at_once_are_all_answered_each_as_itself(tiny, tiny_images):
    images, truths = tiny_images
    async with Agent(tiny.root, server="127.0.0.1:1", policy="local", **QUICK) as agent:
        results = await asyncio.gather(
            *(agent.submit(image, truth=int(truth)) for image, truth in zip(images, truths, strict=True))
        )
    assert [result.frame for result in results] == list(range(len(images)))
    assert {result.outcome for result in results} == {"local"}
    assert [result.truth for result in results] == truths.tolist()
    right = sum(result.answer == result.truth for result in results)
    # As accurate as the bundle says its device answer is, so no two were mixed up.
    assert right / len(results) == pytest.approx(tiny.points.local.utility, abs=0.15)


async def test_a_source_of_images_ends_with_its_last_result(tiny, tiny_images):
    images, truths = tiny_images
    pairs = [(image, int(truth)) for image, truth in zip(images[:20], truths[:20], strict=True)]
    async with Agent(tiny.root, server="127.0.0.1:1", policy="local", fps=200, **QUICK) as agent:
        seen = [result async for result in agent.run(pairs)]
        again = [result async for result in agent.run(iter(images[:3]))]
    assert [result.truth for result in seen] == truths[:20].tolist()
    assert [result.frame for result in again] == [20, 21, 22]
    assert agent.report.summary.captured == 23


async def test_a_named_source_and_a_submitted_image_share_a_run(tiny, tiny_npz, image):
    async with Agent(tiny.root, server="127.0.0.1:1", policy="local", fps=100, frames=10, **QUICK) as agent:
        stream = agent.run(f"npz:{tiny_npz}")
        first = await anext(stream)
        own = await agent.submit(image)
        rest = [result async for result in stream]
    assert own.frame not in {first.frame, *(result.frame for result in rest)}
    assert len(rest) == 9


async def test_a_reader_that_leaves_early_ends_the_capture(tiny, tiny_npz, image):
    async with Agent(tiny.root, server="127.0.0.1:1", policy="local", fps=100, **QUICK) as agent:
        stream = agent.run(f"npz:{tiny_npz}")
        await anext(stream)
        with pytest.raises(InputError, match="another run"):
            await anext(agent.run([image]))
        await stream.aclose()
        assert (await agent.submit(image)).outcome == "local"
        assert len([result async for result in agent.run([image])]) == 1


def test_without_an_event_loop_calls_block_and_may_come_from_several_threads(tiny, tiny_images):
    answers = []
    with Agent(tiny, server="127.0.0.1:1", policy="local", **QUICK) as agent:

        def ask(image):
            answers.append(agent.infer(image, timeout_s=10).outcome)

        threads = [threading.Thread(target=ask, args=(image,)) for image in tiny_images[0][:8]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["local"] * 8
    assert agent.report.summary.captured == 8
    with pytest.raises(InputError, match="another for another run"):
        agent.__enter__()


async def test_a_server_without_the_model_is_told_to_whoever_asks(scripted_server, tiny, image, eventually):
    server = await scripted_server(models={})
    async with Agent(tiny.root, server=server.address, **QUICK) as agent:
        await eventually(lambda: agent._task.done())
        with pytest.raises(NetworkError, match="no model 'tiny'"):
            await agent.submit(image)
    with pytest.raises(NetworkError, match="no model 'tiny'"):
        async with Agent(tiny.root, server=server.address, **QUICK) as unheard:
            await eventually(lambda: unheard._task.done())


async def test_an_image_that_does_not_fit_is_refused_and_costs_nothing(tiny, image):
    async with Agent(tiny.root, policy="local", **QUICK) as agent:
        for wrong, said in [
            (image[:8], r"image is uint8 \(8, 16, 1\); give uint8 \(16, 16, 1\)"),
            (image.astype(np.float32), "image is float32"),
            ([1, 2], "image is of type list"),
        ]:
            with pytest.raises(InputError, match=said):
                await agent.submit(wrong)
        with pytest.raises(InputError, match="image is float32"):
            [result async for result in agent.run([image.astype(np.float32)])]
    assert agent.report.summary.captured == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sauce": 1}, "setting 'sauce' is unknown; known are"),
        ({"deadline": "soon"}, "duration 'soon'"),
        ({"certificate": "a.pem"}, "--certificate and --key belong together"),
    ],
)
def test_settings_are_checked_before_anything_is_loaded(settings, message):
    with pytest.raises(InputError, match=message):
        Agent("nowhere", **settings)


async def test_an_agent_that_is_not_open_says_so(tiny, image, tmp_path):
    agent = Agent(tiny.root, policy="none-such", events=tmp_path / "events.jsonl", thermal="off")
    with pytest.raises(InputError, match="not open"):
        await agent.submit(image)
    with pytest.raises(InputError, match="not open"):
        agent.infer(image)
    with pytest.raises(InputError, match="policy 'none-such'"):
        async with agent:
            raise AssertionError


def test_the_public_name():
    assert isthmus.Agent is Agent
