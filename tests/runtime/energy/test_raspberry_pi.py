"""The Raspberry Pi 5's rails as `vcgencmd pmic_read_adc` prints them."""

import pytest

from isthmus.runtime.energy import open_meter
from isthmus.runtime.energy.raspberry_pi import board_w, open_raspberry_pi
from isthmus.runtime.errors import InputError

# The rails' names and the format are the board's, the values are made round: 2.0 W on rails.
READING = """\
 3V7_WL_SW_A current(0)=0.10000000A
   3V3_SYS_A current(1)=0.10000000A
   1V8_SYS_A current(2)=0.10000000A
  DDR_VDD2_A current(3)=0.00000000A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.20000000A
    0V8_SW_A current(6)=0.30000000A
  VDD_CORE_A current(7)=0.70000000A
   3V3_DAC_A current(17)=0.00000000A
   3V3_ADC_A current(18)=0.00000000A
   0V8_AON_A current(16)=0.00000000A
      HDMI_A current(22)=0.00000000A
 3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
   1V8_SYS_V volt(10)=1.80000000V
  DDR_VDD2_V volt(11)=1.10000000V
  DDR_VDDQ_V volt(12)=0.60000000V
   1V1_SYS_V volt(13)=1.10000000V
    0V8_SW_V volt(14)=0.80000000V
  VDD_CORE_V volt(15)=0.94285714V
   3V3_DAC_V volt(20)=3.30000000V
   3V3_ADC_V volt(21)=3.30000000V
   0V8_AON_V volt(19)=0.80000000V
      HDMI_V volt(23)=5.10000000V
     EXT5V_V volt(24)=5.08000000V
      BATT_V volt(25)=0.00000000V
"""
# 3.7*.1 + 3.3*.1 + 1.8*.1 + 1.1*.2 + .8*.3 + .94285714*.7 = 2.0 W
BOARD_W = 1.1451 * 2.0 + 0.5879


@pytest.fixture
def pi5(tree):
    return tree.put({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})


def test_watts_of_the_board_are_fitted_to_the_sum_of_its_rails():
    assert board_w(READING) == pytest.approx(BOARD_W, abs=1e-6)


def test_joules_of_a_raspberry_pi_5(pi5, clock):
    calls = []

    def run(command, **_):
        calls.append(command)
        return READING

    meter = open_raspberry_pi(pi5.root, clock, run=run)
    clock.pass_s(3.0)
    assert meter.read_j() == pytest.approx(3 * BOARD_W, abs=1e-5)
    assert meter.source == "rpi5-pmic"
    assert calls == [("vcgencmd", "pmic_read_adc")] * 2


def test_a_command_that_fails_in_mid_run_is_said_and_bridged(pi5, clock):
    says = [READING, InputError("rpi5-pmic: vcgencmd: VCHI initialization failed"), READING]

    def run(command, **_):
        said = says.pop(0)
        if isinstance(said, InputError):
            raise said
        return said

    meter = open_raspberry_pi(pi5.root, clock, run=run)
    clock.pass_s(1.0)
    assert meter.read_j() is None
    assert "VCHI" in meter.trouble
    clock.pass_s(1.0)
    assert meter.read_j() == pytest.approx(2 * BOARD_W, abs=1e-5)


@pytest.mark.parametrize("said", ["", 'error=1 error_msg="Command not registered"', "EXT5V_V volt(24)=5.1V"])
def test_an_answer_without_rails_is_refused(said):
    with pytest.raises(InputError, match="no rails; add its user to the group 'video'"):
        board_w(said)


def test_other_boards_have_no_such_sensor(tree, clock):
    tree.put({"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"})
    assert open_raspberry_pi(tree.root, clock) is None


def test_without_the_tool_the_message_says_what_to_install(pi5, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match=r"vcgencmd: No such file or directory; .*install raspi-utils"):
        open_meter("rpi5", root=pi5.root)
