"""The status file: whole at every instant, and readable by whoever finds it."""

import asyncio
import json
import os
import threading
import time

import msgspec
import pytest

from isthmus.device_agents.operation.status import (
    STATUS_SCHEMA_VERSION,
    AgentStatus,
    read_status,
    write_status,
)
from isthmus.device_agents.operation.thermal import ThermalReading
from isthmus.device_agents.operation.vitals import Vitals
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import ArtifactError


@pytest.fixture
def status():
    return AgentStatus(
        pid=os.getpid(),
        written_unix_s=1.5,
        uptime_s=2.0,
        state="running",
        isthmus_version="0",
        bundle="tiny",
        bundle_digest="d",
        source="digits",
        policy="local",
        provider="CPUExecutionProvider",
        servers=("a:1",),
        server=None,
        connected=False,
        connections=0,
        rate_bytes_per_s=None,
        rtt_s=None,
        server_load=None,
        fps=30.0,
        deadline_s=0.1,
        point=OperatingPoint(1, 2),
        captured=3,
        outcomes={"exit": 3},
        open=0,
        accuracy=None,
        latency_p50_s=0.01,
        latency_p90_s=0.01,
        latency_p99_s=0.01,
        mean_payload_bytes=None,
        temperature_c=None,
        throttled=None,
        events_lost=0,
        results_lost=0,
        last_note="",
    )


def test_what_is_written_is_what_is_read(status, tmp_path):
    file = tmp_path / "status.json"
    write_status(file, status)
    assert read_status(file) == status
    assert json.loads(file.read_text())["schema_version"] == STATUS_SCHEMA_VERSION
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_never_sees_half_a_status(status, tmp_path):
    file, done, seen = tmp_path / "status.json", threading.Event(), set()
    write_status(file, status)

    def write():
        for number in range(300):
            write_status(file, msgspec.structs.replace(status, captured=number, last_note="x" * number * 20))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        now = read_status(file)
        seen.add(now.captured)
        assert now.last_note == "" or len(now.last_note) == now.captured * 20
    writer.join()
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory; start the agent with --status"),
        (b"{", "not the status of an agent"),
        (b"[]", "not the status of an agent"),
        (b'{"schema_version": 99}', "status schema 99, this Isthmus reads 1"),
        (b'{"schema_version": 1}', "not the status of an agent"),
        (b"\xff\xfe", "not the status of an agent"),
    ],
)
def test_what_is_no_status_is_refused_in_one_line(tmp_path, content, message):
    file = tmp_path / "status.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as error:
        read_status(file)
    assert "\n" not in str(error.value)


async def test_a_file_that_cannot_be_written_is_said_once(status, tmp_path):
    notes = []
    vitals = Vitals(tmp_path / "none" / "status.json", None, note=notes.append)
    await vitals.beat(lambda thermal: status)
    await vitals.beat(lambda thermal: status)
    assert notes == [
        f"status file {tmp_path / 'none' / 'status.json'}: No such file or directory; "
        "the run goes on without it"
    ]


async def test_the_sensors_reading_is_part_of_the_status_and_slowing_down_is_said(status, tmp_path):
    readings = [
        ThermalReading(temperature_c=50.0, throttled=False),
        ThermalReading(temperature_c=90.0, throttled=True, causes=("90 °C",)),
        ThermalReading(temperature_c=91.0, throttled=True, causes=("91 °C",)),
        ThermalReading(temperature_c=60.0, throttled=False),
    ]

    class Monitor:
        def read(self):
            time.sleep(0.001)
            return readings.pop(0)

    notes, seen = [], []

    def make(thermal):
        seen.append(thermal.temperature_c)
        return msgspec.structs.replace(status, temperature_c=thermal.temperature_c)

    file = tmp_path / "status.json"
    vitals = Vitals(file, Monitor(), note=notes.append)
    for _ in range(4):
        await vitals.beat(make)
        await asyncio.sleep(0)
    assert seen == [50.0, 90.0, 91.0, 60.0]
    assert read_status(file).temperature_c == 60.0
    assert notes == ["the device is slowed down: 90 °C", "the device is at full speed again"]
