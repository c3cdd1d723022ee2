"""NVML, played by a module of the same name: what the library says on an old, a new and a missing GPU."""

import types

import pytest

from isthmus.runtime.energy import find_sensors, open_meter
from isthmus.runtime.errors import InputError, MissingExtraError


class NVMLError(Exception):
    pass


@pytest.fixture
def gpu(monkeypatch):
    state = types.SimpleNamespace(energy_mj=5_000, power_mw=50_000, fails=None)
    library = types.ModuleType("pynvml")

    def handle(index):
        if index > 0:
            raise NVMLError("Invalid Argument")
        return "GPU"

    def ask(name):
        def answer(_handle):
            if state.fails:
                raise NVMLError(state.fails)
            value = getattr(state, name)
            if value is None:
                raise NVMLError("Not Supported")
            return value

        return answer

    library.NVMLError = NVMLError
    library.nvmlInit = lambda: None
    library.nvmlDeviceGetHandleByIndex = handle
    library.nvmlDeviceGetTotalEnergyConsumption = ask("energy_mj")
    library.nvmlDeviceGetPowerUsage = ask("power_mw")
    monkeypatch.setitem(__import__("sys").modules, "pynvml", library)
    return state


def test_a_gpu_that_counts_millijoules(gpu, clock):
    meter = open_meter("nvml", clock=clock)
    gpu.energy_mj = 17_500
    assert (meter.source, meter.read_j()) == ("nvml", 12.5)


def test_an_older_gpu_tells_milliwatts(gpu, clock):
    gpu.energy_mj = None
    meter = open_meter("nvml:0", clock=clock)
    clock.pass_s(2.0)
    gpu.power_mw = 70_000
    assert meter.read_j() == pytest.approx(120.0)


def test_a_driver_that_is_loaded_anew_sets_the_counter_back(gpu, clock):
    meter = open_meter("nvml", clock=clock)
    gpu.energy_mj = 10
    assert meter.read_j() is None
    assert "GPU 0: the counter was set back" in meter.trouble


def test_a_gpu_that_falls_off_the_bus(gpu, clock):
    meter = open_meter("nvml", clock=clock)
    gpu.fails = "GPU is lost"
    assert meter.read_j() is None
    assert meter.trouble == "nvml: GPU is lost; see whether 'nvidia-smi' shows the GPU"


def test_a_gpu_that_is_not_there(gpu):
    with pytest.raises(InputError, match="nvml: GPU 3: Invalid Argument"):
        open_meter("nvml:3")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match=r"isthmus\[energy\]"):
        open_meter("nvml")


def test_processor_and_gpu_together(gpu, tree, clock):
    zone = "sys/class/powercap/intel-rapl:0"
    tree.put({f"{zone}/name": "package-0", f"{zone}/energy_uj": 0, f"{zone}/max_energy_range_uj": 2**40})
    meter = open_meter("rapl+nvml", root=tree.root, clock=clock)
    clock.pass_s(1.0)
    tree.put({f"{zone}/energy_uj": 3_000_000})
    gpu.energy_mj = 7_000
    assert (meter.source, meter.measured, meter.read_j()) == ("rapl+nvml", True, 5.0)
    gpu.fails = "GPU is lost"
    assert meter.read_j() is None
    assert "GPU is lost" in meter.trouble


def test_auto_does_not_take_a_gpu_for_the_device_but_it_is_found(gpu, tree):
    tree.put({"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54"})
    assert open_meter("auto", root=tree.root) is None
    (found,) = find_sensors(tree.root)
    assert (found.source, found.sensor.covers) == ("nvml", "the GPU alone")
