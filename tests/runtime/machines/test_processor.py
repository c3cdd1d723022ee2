"""What this machine is called."""

import os

from isthmus.runtime.machines.processor import processor_name


def test_the_processor_is_named_with_its_cores():
    assert f"{os.cpu_count()} cores" in processor_name()
