"""The joules of a run: as its meter reads them, from the run's beginning, and unknown where it does not."""

import asyncio

import pytest

from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.operation.energy import EnergyReading, EnergyWatch
from isthmus.device_agents.operation.status import read_status
from isthmus.runtime.errors import ArtifactError, InputError

NOWHERE = "127.0.0.1:9"


@pytest.fixture
def recording(tmp_path):
    """Return `record(*lines)`: a file of (instant, joules) to replay."""

    def record(*lines):
        file = tmp_path / "joules.jsonl"
        file.write_text("".join(f'{{"at_s":{at_s},"energy_j":{energy_j}}}\n' for at_s, energy_j in lines))
        return f"replay:{file}"

    return record


@pytest.fixture
def watch():
    """Return `make(**settings)`, a watch, and the lines it notes."""
    noted, made = [], []

    def make(**settings):
        made.append(EnergyWatch(AgentConfig(**{"source": "synthetic", **settings}), note=noted.append))
        return made[-1]

    make.noted = noted
    yield make
    for one in made:
        one.close()


async def test_without_a_meter_nothing_is_known(watch):
    energy = watch(energy="none")
    await energy.begin(asyncio.Event())
    assert energy.reading() == EnergyReading()
    assert (energy.idle_w, energy.radio, energy.transmit_j_per_byte, watch.noted) == (None, None, 0.0, [])


async def test_watts_at_rest_are_measured_before_the_run_and_not_counted_in_it(watch, recording):
    spec = recording((0.0, 0.0), (3600.0, 18_000.0))  # 5 W
    energy = watch(energy=spec, energy_idle_s=0.5)
    await energy.begin(asyncio.Event())
    assert energy.idle_w == pytest.approx(5.0, rel=0.01)
    reading = energy.reading()
    assert reading.source == spec
    assert 0.0 <= reading.energy_j < 1.0  # of the 2.5 J and more since the meter was opened
    assert watch.noted == [f"energy: {spec}, 5.00 W at rest"]


async def test_a_run_that_is_stopped_at_once_does_not_wait_for_its_rest(watch, recording):
    energy = watch(energy=recording((0.0, 0.0), (3600.0, 18_000.0)), energy_idle_s=600.0)
    stopped = asyncio.Event()
    stopped.set()
    await asyncio.wait_for(energy.begin(stopped), 10)
    assert energy.idle_w is None


async def test_a_meter_that_was_asked_for_and_is_not_there_ends_the_run(watch):
    with pytest.raises(InputError, match="energy meter 'wattmeter' is not known"):
        await watch(energy="wattmeter").begin(None)


def test_a_profile_that_is_not_there_is_said_before_anything_else(watch):
    with pytest.raises(ArtifactError, match="no-board"):
        watch(device="no-board")


async def test_a_meter_that_ends_in_mid_run_is_said_once(watch, recording):
    energy = watch(energy=recording((0.0, 0.0), (0.2, 1.0)), energy_idle_s=0.0)
    await energy.begin(asyncio.Event())
    for _ in range(200):
        if energy.reading().energy_j is None:
            break
        await asyncio.sleep(0.05)
    energy.reading()
    assert energy.reading().power_w is None
    assert energy.reading().source.startswith("replay:")
    assert [text for text in watch.noted if "unknown" in text] == [
        f"energy unknown: {energy.reading().source}: the recording ended"
    ]


async def test_a_models_device_is_its_profile(watch):
    energy = watch(energy="model:pi4")
    await energy.begin(asyncio.Event())
    reading = energy.reading()
    assert reading.source.startswith("model:")
    assert energy.idle_w == pytest.approx(2.7)  # of the profile, not of this machine
    assert "(modelled)" in watch.noted[0]
    assert AgentConfig(source="synthetic", energy="rapl", device="pi4").profile == "pi4"
    assert AgentConfig(source="synthetic", energy="command:x model:pi4").profile is None


async def test_a_runs_log_and_status_have_its_joules(launch, account, tiny, tmp_path, recording):
    spec = recording((0.0, 100.0), (3600.0, 18_100.0))
    status = tmp_path / "status.json"
    _, task, path = launch(
        tiny, NOWHERE, duration_s=1.4, policy="local", energy=spec, energy_idle_s=0.3, status=status
    )
    await asyncio.wait_for(task, 20)
    run, _, links, end = account(path)
    assert run.idle_w == pytest.approx(5.0, rel=0.02)
    assert [link.energy_source for link in links] == [spec] * len(links)
    last = links[-1]
    # The last reading is up to a period of the sampler old, more on a busy machine, and never newer.
    assert 0.5 * 5.0 * (last.at_s - run.at_s) < last.energy_j <= 5.0 * (end.at_s - run.at_s) + 1.0
    assert links[0].energy_j < last.energy_j
    ended = read_status(status)
    assert ended.energy_source == spec
    assert ended.idle_w == pytest.approx(run.idle_w)
    assert ended.power_w == pytest.approx(5.0, rel=0.02)


async def test_correct_answers_per_joule_need_a_device_that_knows_its_joules(
    launch, account, scripted_server, tiny
):
    server = await scripted_server()
    told = {"policy": "expected-utility", "objective": "energy", "frames": 20}
    with pytest.raises(InputError, match=r"joules of some points are unknown; name .* \(--device\)"):
        launch(tiny, server.address, **told)
    agent, task, path = launch(tiny, server.address, device="pi4", **told)
    state = agent._guard._device.state(server_s=0.001)
    assert state.transmit_j_per_byte == pytest.approx(2.2654e-6)
    await asyncio.wait_for(task, 20)
    run, _, _, end = account(path)
    assert run.radio.source == "scaled"
    assert end.captured == 20


async def test_pushed_frames_do_not_wait_for_a_rest(tiny, banks, watcher, recording):
    from isthmus.device_agents.agent import AgentRun

    spec = recording((0.0, 0.0), (3600.0, 18_000.0))
    config = AgentConfig(source="pushed", policy="local", energy=spec, energy_idle_s=600.0)
    agent = AgentRun(config, tiny, bank=banks[tiny.root], source=None, log=None, observer=watcher)
    task = asyncio.ensure_future(agent.run())
    for _ in range(200):
        if agent._energy.reading().energy_j is not None:
            break
        await asyncio.sleep(0.05)
    assert agent._energy.reading().source == spec
    assert agent._energy.idle_w is None
    agent.stop()
    await asyncio.wait_for(task, 10)


async def test_a_rest_that_is_cancelled_leaves_no_meter_behind(watch, recording):
    energy = watch(energy=recording((0.0, 0.0), (3600.0, 18_000.0)), energy_idle_s=600.0)
    task = asyncio.ensure_future(energy.begin(asyncio.Event()))
    for _ in range(200):
        if energy.reading().energy_j is not None:
            break
        await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not energy._sampler._thread.is_alive()
