"""What `--source` may say."""

import pytest

from isthmus.device_agents.sources import open_source
from isthmus.runtime.errors import InputError


@pytest.mark.parametrize(
    "spec",
    [
        *("", "camera", "camera:", "video:", "folder:", "npz:", "digits:x", "synthetic:", "webcam:0"),
        *("loop:camera:0", "once:synthetic", "loop:", "loop:loop:digits"),
    ],
)
def test_a_spec_of_no_known_kind_is_refused_in_one_line(tiny, spec):
    with pytest.raises(InputError, match=f"source '{spec}': give camera:0") as caught:
        open_source(spec, tiny.manifest)
    assert "\n" not in str(caught.value)


def test_a_synthetic_size_that_is_none_is_named(tiny):
    with pytest.raises(InputError, match="size '3y4'"):
        open_source("synthetic:3y4", tiny.manifest)
