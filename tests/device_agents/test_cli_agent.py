"""`isthmus agent` on the command line: output, and errors as one line with their exit code."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import isthmus
from isthmus import cli
from isthmus.runtime.events import EndEvent, read_events


@pytest.fixture
def run(capsys):
    """Return `run(*arguments) -> (exit code, stdout, stderr)`."""

    def call(*arguments):
        code = cli.run(["agent", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def threaded_server(scripted_server_class):
    """Return a scripted server that runs on a thread of its own, for `cli.run` blocks this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(scripted_server_class().start(), loop).result(5)
    yield server
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def test_json_is_one_object_on_stdout_and_nothing_else(run, tiny_bundle, tiny_npz, threaded_server, tmp_path):
    events = tmp_path / "events.jsonl"
    code, out, _ = run(
        tiny_bundle,
        *("--source", f"npz:{tiny_npz}", "--server", threaded_server.address, "--policy", "fixed:3,4"),
        *("--frames", 40, "--fps", 100, "--deadline", "200ms", "--events", events, "--json"),
    )
    assert code == 0
    result = json.loads(out)
    assert result["captured"] == sum(result["outcomes"].values()) == 40
    assert result["outcomes"]["remote"] > 25
    assert result["points"] == [
        {"width_index": 3, "width": 1.0, "channels": 4, "frames": result["sent"]},
    ]
    assert 0 < result["latency_s"]["p50"] <= result["latency_s"]["p90"] <= result["latency_s"]["p99"]
    assert result["mean_payload_bytes"] > 28
    assert (result["connections"], result["reconnects"], result["events_lost"]) == (1, 0, 0)
    assert result["events"] == str(events)
    assert result["provider"] == "CPUExecutionProvider"
    end = list(read_events(events))[-1]
    assert isinstance(end, EndEvent)
    assert end.outcomes == result["outcomes"]


def test_without_a_terminal_the_table_is_plain_lines(run, tiny_bundle, tiny_npz):
    code, out, err = run(
        tiny_bundle, "--source", f"npz:{tiny_npz}", "--policy", "local", "--duration", "1.2s", "--fps", 50
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["time", "link", "point", "bytes"]
    assert lines[1].split()[:2] == ["1", "s"]
    assert "\x1b" not in out
    assert any("60 frames: " in line and "local" in line for line in lines)
    assert "4 widths warm on CPUExecutionProvider, 1 thread(s)" in err


def test_quiet_prints_only_the_summary(run, tiny_bundle, tiny_npz):
    code, out, err = run(
        tiny_bundle, "--source", f"npz:{tiny_npz}", "--server", "127.0.0.1:1", "--frames", 10, "--quiet"
    )
    assert code == 0
    assert err == ""
    assert out.splitlines()[0].startswith("10 frames: ")
    assert "server 127.0.0.1:1 was never reached" in out


def test_an_unreachable_server_is_no_error_but_is_said(run, tiny_bundle, tiny_npz):
    code, _, err = run(tiny_bundle, "--source", f"npz:{tiny_npz}", "--server", "127.0.0.1:1", "--frames", 10)
    assert code == 0
    assert "no connection to 127.0.0.1:1 (UNAVAILABLE" in err
    assert "trying again until a server answers" in err


def test_a_model_the_server_lacks_is_one_line_and_exit_5(run, tiny_bundle, tiny_npz, threaded_server):
    code, _, err = run(
        tiny_bundle,
        *("--source", f"npz:{tiny_npz}", "--server", threaded_server.address, "--model", "other", "--quiet"),
    )
    assert code == 5
    assert err.splitlines() == [
        f"error: server {threaded_server.address} has no model 'other' (unknown model 'other'); "
        "serve the bundle there, or name the server's model with --model"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--source", "npz:none.npz"], 3, "none.npz: No such file"),
        (["--source", "camera"], 3, "source 'camera'"),
        ([], 3, "source is not set"),
        (["--source", "GOOD", "--duration", "soon"], 3, "duration 'soon'"),
        (["--source", "GOOD", "--duration", "0s"], 3, "duration 0 s"),
        (["--source", "GOOD", "--deadline", "150"], 3, "duration '150'"),
        (["--source", "GOOD", "--fps", "0"], 3, "fps 0"),
        (["--source", "GOOD", "--frames", "0"], 3, "frames 0"),
        (["--source", "GOOD", "--server", "nowhere"], 3, "give HOST:PORT"),
        (["--source", "GOOD", "--insecure", "--authority", "a.pem"], 3, "give one or the other"),
        (["--source", "GOOD", "--policy", "clever"], 3, "policy 'clever'"),
        (["--source", "GOOD", "--policy", "fixed:9,9"], 3, "no such point"),
        (["--source", "GOOD", "--codec", "zip"], 3, "codec 'zip'"),
        (["--source", "GOOD", "--provider", "gpu"], 3, "provider 'gpu'"),
        (["--source", "GOOD", "--threads", "0"], 3, "threads 0"),
        (["--source", "GOOD", "--config", "none.toml"], 3, "none.toml: No such file"),
        (["--source", "GOOD", "--events", "no-folder/events.jsonl"], 4, "no-folder/events.jsonl"),
    ],
)
def test_user_errors_are_one_line_with_their_code(run, tiny_bundle, tiny_npz, arguments, code, message):
    arguments = [argument.replace("GOOD", f"npz:{tiny_npz}") for argument in arguments]
    actual, _, err = run(tiny_bundle, *arguments, "--quiet")
    assert actual == code
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err


def test_images_of_another_size_name_both_sizes(run, tiny_bundle, tmp_path):
    file = tmp_path / "big.npz"
    np.savez(file, images=np.zeros((2, 32, 32, 1), np.uint8), labels=np.array([0, 1]))
    code, _, err = run(tiny_bundle, "--source", f"npz:{file}")
    assert code == 3
    assert "32x32x1" in err
    assert "16x16x1" in err


@pytest.mark.parametrize("damage", ["missing", "version", "flipped"])
def test_a_bad_bundle_is_one_line_and_exit_4(run, tiny_bundle, tiny_npz, tmp_path, damage):
    root = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, root)
    manifest = root / "manifest.json"
    if damage == "missing":
        manifest.unlink()
    elif damage == "version":
        manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    else:
        head = root / "heads" / "w050.onnx"
        content = bytearray(head.read_bytes())
        content[40] ^= 1
        head.write_bytes(content)
    code, _, err = run(root, "--source", f"npz:{tiny_npz}")
    assert code == 4
    assert err.startswith(f"error: {root}")
    assert len(err.splitlines()) == 1


# The table's first row, which finds its reader gone, comes after a second.
@pytest.mark.parametrize(
    ("closed", "flags", "frames"), [("stdout", [], 55), ("stdout", ["--json"], 5), ("stderr", ["--json"], 5)]
)
def test_a_reader_that_leaves_does_not_end_the_run(tiny_bundle, tiny_npz, tmp_path, closed, flags, frames):
    events = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "isthmus", "agent", str(tiny_bundle), "--source", f"npz:{tiny_npz}"]
    command += ["--policy", "local", "--fps", "50", "--frames", str(frames), "--events", str(events), *flags]
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
    # Our source tree, wherever the test runs from.
    environment = {**os.environ, "PYTHONPATH": str(Path(isthmus.__file__).resolve().parents[1])}
    with subprocess.Popen(command, text=True, env=environment, **streams) as process:
        os.close(writer)
        said = "".join(text or "" for text in process.communicate(timeout=30))
    assert process.returncode == 0, said
    end = list(read_events(events))[-1]
    assert isinstance(end, EndEvent)
    assert end.captured == frames
    assert ('"captured": 5' in said) is (closed == "stderr")
    assert not any(word in said for word in ("Traceback", "BrokenPipe", "Exception ignored"))
