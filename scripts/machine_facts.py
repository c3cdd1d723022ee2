"""Published watts and radios of the machines whose profiles ship with Isthmus, each with its place."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.runtime.machines import Cited, Power, RadioModel

# Milliwatts per Mbit/s into joules per byte.
_PER_BYTE = 1e-3 / 125_000
_WIFI = RadioModel(
    transmit_j_per_byte=round(283.17 * _PER_BYTE, 10),
    receive_j_per_byte=round(137.01 * _PER_BYTE, 10),
    tail_w=0.13286,
    tail_s=0.2381,
    source="scaled",
    origin=(
        "a smartphone's WiFi, taken unchanged: 283.17 mW per Mbit/s sent, 137.01 received, 132.86 mW awake, "
        "238.1 ms of tail (Huang et al., A Close Examination of Performance and Power Characteristics of 4G "
        "LTE Networks, MobiSys 2012, tables 3 and 4); this machine's radio was not measured"
    ),
)

POWER: Mapping[str, Power] = {
    "pi4": Power(
        idle_w=2.7,
        compute_w=3.7,
        transmit_w=None,
        compute_threads=4,
        source="published",
        origin=(
            "Raspberry Pi 4 Model B, whole board at 5 V: 540 mA idle, 1280 mA with all four cores loaded "
            "(stress --cpu 4); Raspberry Pi Dramble, Power Consumption Benchmarks"
        ),
    ),
    "pi5": Power(
        idle_w=3.1,
        compute_w=5.9,
        transmit_w=None,
        compute_threads=4,
        source="scaled",
        origin=(
            "a Raspberry Pi 500, the same processor and memory in a keyboard, taken unchanged: 3.1 W idle, "
            "9 W with all four cores loaded (stress-ng --matrix 0), at the wall with the losses of its power "
            "supply (J. Geerling, github.com/geerlingguy/sbc-reviews, issue 60)"
        ),
    ),
    "jetson-nano": Power(
        idle_w=2.5,
        compute_w=4.3,
        transmit_w=None,
        source="published",
        origin="see 'cited'; the developer kit, at 5 V",
    ),
    "orin-nano": Power(
        idle_w=2.6,
        compute_w=12.4,
        transmit_w=None,
        source="published",
        origin="see 'cited': the least and the most that it is known to draw, not a workload's own",
    ),
    "laptop": Power(
        idle_w=7.0,
        compute_w=32.0,
        transmit_w=None,
        compute_threads=8,
        source="scaled",
        origin=(
            "a Mac mini (M1, 2020), the same processor without a screen, taken unchanged: 7 W idle, 39 W at "
            "the most (Apple, Mac mini power consumption and thermal output)"
        ),
    ),
    "cloud-6700k": Power(
        idle_w=None,
        compute_w=91.0,
        transmit_w=None,
        compute_threads=8,
        source="published",
        origin="Intel Core i7-6700K, thermal design power of the processor alone (Intel): an upper bound",
    ),
    "server-gpu": Power(
        idle_w=None,
        compute_w=215.0,
        transmit_w=None,
        source="published",
        origin="NVIDIA GeForce RTX 2080, power of the graphics card alone (NVIDIA): an upper bound",
    ),
}

RADIO: Mapping[str, RadioModel] = dict.fromkeys(("pi4", "pi5", "orin-nano", "laptop"), _WIFI)

CITED: Mapping[str, dict[str, Cited]] = {
    "pi4": {},
    "pi5": {},
    "jetson-nano": {
        "power.idle_w": Cited(
            source="published",
            origin="0.5 A at 5 V, the least that a user measured (github.com/NVIDIA-AI-IOT/jetbot, issue 34)",
        ),
        "power.compute_w": Cited(
            source="scaled",
            origin="6.8 W less those at rest: YOLOv5n, 12.34 frames a second at 0.154 mWh each (P. Machado "
            "et al., arXiv 2207.06150)",
        ),
        "radio": Cited(source="published", origin="the developer kit has a wired network alone"),
    },
    "orin-nano": {
        "power.idle_w": Cited(
            source="published",
            origin="the whole developer kit at rest with clocks lowered and unused parts off: the least "
            "(NVIDIA developer forum, topic 348662)",
        ),
        "power.compute_w": Cited(
            source="scaled",
            origin="the budget of the module's 15 W mode (NVIDIA) less the watts at rest: the most of that "
            "mode",
        ),
    },
}
