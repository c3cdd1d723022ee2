"""A run takes a new deadline while it goes on."""

import asyncio

from isthmus.runtime.events import DeadlineEvent, FrameEvent, read_events
from isthmus.runtime.steering import steer


async def test_frames_captured_after_the_change_have_the_new_deadline(
    launch, scripted_server, exit_only, tmp_path, eventually
):
    server = await scripted_server()
    control = tmp_path / "agent.sock"
    agent, task, path = launch(
        exit_only, server.address, fps=100.0, deadline_s=0.2, control=control, name="cam-1"
    )
    await eventually(lambda: agent.captured >= 10 and control.exists())
    said = await steer(control)
    assert (said.kind, said.name) == ("agent", "cam-1")
    (knob,) = said.knobs
    assert (knob.name, knob.value, knob.is_set) == ("deadline_s", 0.2, False)
    # Shorter than any way to a server: from now on the device must answer, or be late.
    (knob,) = (await steer(control, {"deadline_s": 0.005})).knobs
    assert (knob.value, knob.is_set) == (0.005, True)
    before = agent.captured
    await eventually(lambda: agent.captured >= before + 20)
    (knob,) = (await steer(control, {"deadline_s": None})).knobs
    assert (knob.value, knob.is_set) == (0.2, False)
    agent.stop()
    await asyncio.wait_for(task, 30)
    assert not control.exists()

    events = list(read_events(path))
    changes = [event for event in events if isinstance(event, DeadlineEvent)]
    assert [event.deadline_s for event in changes] == [0.005, 0.2]
    tight = [
        event
        for event in events
        if isinstance(event, FrameEvent) and changes[0].at_s < event.captured_s < changes[1].at_s
    ]
    assert len(tight) >= 15
    in_time = [event for event in tight if event.outcome in ("remote", "exit", "local")]
    assert all(event.latency_s <= 0.005 for event in in_time if event.latency_s is not None)
    late = [event for event in tight if event.outcome == "late"]
    assert all(event.latency_s > 0.005 for event in late if event.latency_s is not None)
