"""Real agents that send their events themselves."""

from isthmus.cli._processes import Children


def test_an_agent_sends_its_run_from_beginning_to_end(dashboard, token_file, tiny_bundle):
    with dashboard(token_file=token_file) as running, Children() as children:
        agent = [
            "agent",
            str(tiny_bundle),
            "--name",
            "pi",
            "--server",
            "127.0.0.1:9",
            "--source",
            "synthetic",
        ]
        agent += ["--fps", "50", "--frames", "60", "--quiet", "--thermal", "off"]
        agent += ["--events-to", f"http://127.0.0.1:{running.port}", "--events-token-file", str(token_file)]
        assert children.run(agent) == 0
        device = running.collector.fleet.devices["pi"]
        assert device.run is not None
        assert device.run.agent == "pi"
        assert device.ended
        assert device.last is not None
        assert device.last.frame == 59
        running.until(lambda kind, said: kind == "tick" and said["devices"]["state"] == ["ended"])


def test_a_dashboard_that_refuses_does_not_disturb_a_run(dashboard, token_file, tiny_bundle, tmp_path, capfd):
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text("quite-another-token")
    with dashboard(token_file=token_file) as running, Children() as children:
        agent = [
            "agent",
            str(tiny_bundle),
            "--name",
            "pi",
            "--server",
            "127.0.0.1:9",
            "--source",
            "synthetic",
        ]
        agent += ["--fps", "50", "--frames", "100", "--thermal", "off"]
        agent += ["--events-to", f"http://127.0.0.1:{running.port}", "--events-token-file", str(other)]
        assert children.run(agent) == 0
        assert running.collector.fleet.devices == {}
    said = capfd.readouterr().err
    assert said.count("no token that may send events as 'pi'") == 1
    assert "the run goes on" in said
