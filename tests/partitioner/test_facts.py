import pytest

from isthmus.partitioner import BottleneckAssumption, BottleneckRules, DeviceProfile, LinkProfile
from isthmus.runtime.errors import InputError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DeviceProfile(name="pi", speed=0.0),
            "pi: speed 0.0 is not above 0; 0.1 means ten times slower",
        ),
        (lambda: DeviceProfile(name="pi", speed=float("nan")), "pi: speed nan is not above 0"),
        (lambda: DeviceProfile(name="pi", threads=0), "pi: 0 threads; give at least 1"),
        (lambda: LinkProfile(rate_bytes_per_s=-1.0, rtt_s=0.0), "link: rate -1.0 bytes/s is not 0 or more"),
        (lambda: LinkProfile(rate_bytes_per_s=1.0, rtt_s=-0.1), "link: RTT -0.1 s is not 0 or more"),
        (lambda: BottleneckAssumption(compression=0.0), "compression 0.0 is not a positive fraction"),
        (lambda: BottleneckAssumption(encoder_fraction=-1.0), "encoder_fraction -1.0"),
        (lambda: BottleneckAssumption(decoder_fraction=-1.0), "decoder_fraction -1.0"),
        (lambda: BottleneckAssumption(payload_bytes=0), "0 payload bytes; give at least 1"),
        (lambda: BottleneckRules(min_side=0), "min_side 0"),
        (lambda: BottleneckRules(min_head_share=1.5), r"min_head_share 1.5 is not in \[0, 1\]"),
        (lambda: BottleneckRules(tolerance=-0.1), "tolerance -0.1 is not 0 or more"),
    ],
)
def test_facts_refuse_values_out_of_range(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]
