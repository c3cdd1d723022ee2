"""An external meter on a serial line, a reading per line: `serial:/dev/ttyUSB0?baud=115200&key=…`."""

from __future__ import annotations

import threading
from urllib.parse import parse_qsl, urlencode

from isthmus.runtime.energy.counting import Clock
from isthmus.runtime.energy.external import ExternalMeter, ReadingSum
from isthmus.runtime.errors import InputError, MissingExtraError

_BAUD = 115_200
# How long closing may have to wait for the thread that reads.
_PATIENCE_S = 0.5
# A line without an end is noise: a wrong baud rate, or another device.
_LONGEST_LINE = 4096


class SerialMeter(ExternalMeter):
    """Reads lines from a serial device on a thread of its own.

    Args:
        address: DEVICE, or DEVICE?baud=…&key=…&unit=…
        clock: Monotonic seconds.

    Raises:
        InputError: If the device cannot be opened, or an option is wrong.
        MissingExtraError: If pyserial is not installed.
    """

    source = "serial"

    def __init__(self, address: str, *, clock: Clock) -> None:
        device, _, query = address.partition("?")
        self._where = f"serial: {device}"
        baud, rest = _baud(query)
        self._sum = ReadingSum(self._where, rest, clock=clock)
        try:
            import serial
        except ImportError:
            raise MissingExtraError("an energy meter on a serial line", "energy") from None
        try:
            self._line = serial.Serial(device, baud, timeout=_PATIENCE_S)
        except (OSError, ValueError) as error:  # SerialException is an OSError
            why = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self._where}: {why}; see 'ls /dev/ttyUSB* /dev/ttyACM*', and the group 'dialout'"
            ) from None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="isthmus-energy-serial", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See `EnergyMeter`."""
        self._closing.set()
        self._thread.join()
        self._line.close()

    def _listen(self) -> None:
        held, whole = b"", False
        while not self._closing.is_set():
            try:
                held += self._line.read(max(1, self._line.in_waiting))
            except OSError as error:
                self._sum.fail(f"{self._where}: {error}; plug it in again and start anew")
                return
            *lines, held = held.split(b"\n")
            # The first line may have begun before we listened: what is left of 13.4 W may read 3.4 W.
            for line in lines if whole else lines[1:]:
                if line.strip():
                    self._sum.take(line.decode("utf-8", errors="replace"))
            whole = whole or bool(lines)
            if len(held) > _LONGEST_LINE:
                self._sum.fail(f"{self._where}: no lines of text; see its baud rate")
                held = b""


def _baud(query: str) -> tuple[int, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    text = options.pop("baud", str(_BAUD))
    if not text.isdecimal() or not 50 <= int(text) <= 4_000_000:
        raise InputError(f"serial: baud {text!r}: give 50 to 4000000")
    return int(text), urlencode(options)
