"""The width bank: one warm ONNX Runtime session per width, so that switching widths is an index.

Decides how sessions are set up on a small device, and measures what each costs while running. Refuses to know
what is done with a latent. Research behind the settings: one session per width beats one graph that slices
its weights 2×; without the memory arena the sessions cost no more than their packed weights; spinning threads
cost ten times the processor time of sleeping ones at 20 frames a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from isthmus.runtime.bundle import EXIT, LOCAL, Bundle, head_name
from isthmus.runtime.errors import BundleError, InputError
from isthmus.runtime.session.timing import RecentMedian

ProviderChoice = Literal["auto", "cpu", "xnnpack", "cuda", "tensorrt"]

_CPU = "CPUExecutionProvider"
_PROVIDERS = {
    "cpu": _CPU,
    "xnnpack": "XnnpackExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# XNNPACK is left out: on one and the same board it is quicker for some networks and slower for others.
_AUTOMATIC = ("tensorrt", "cuda")
# The first run of a session allocates and packs; the ones after it are timed.
_WARM_RUNS = 4


class WidthBank:
    """The sessions of one bundle on this device, all loaded and run once.

    Attributes:
        provider: The execution provider that really runs the heads; of several, the first head's.
        notes: One line for each network that the provider asked for refused, and why.
        head_s: Per width index, seconds of one image through that head, as measured lately.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, provider: ProviderChoice = "auto") -> None:
        """Load and warm every session.

        Raises:
            BundleError: If a file is not a network that fits the manifest.
            InputError: If `threads` or `provider` cannot be had on this machine.
        """
        if threads < 1:
            raise InputError(f"threads {threads}: give 1 or more")
        manifest = bundle.manifest
        self._image_hwc = (manifest.input.height, manifest.input.width, manifest.input.channels)
        self._latent_chw = (manifest.latent.channels, manifest.latent.height, manifest.latent.width)
        providers = providers_of(provider)
        labels = len(manifest.labels)
        heads = [head_name(width) for width in manifest.widths]
        self._heads = [
            _Network(bundle, name, providers, threads, self._image_hwc, self._latent_chw) for name in heads
        ]
        self._exit = self._local = None
        if bundle.has(EXIT):
            self._exit = _Network(bundle, EXIT, providers, threads, self._latent_chw, (labels,))
        if bundle.has(LOCAL):
            self._local = _Network(bundle, LOCAL, providers, threads, self._image_hwc, (labels,))
        networks = [*self._heads, *(network for network in (self._exit, self._local) if network)]
        self.provider = self._heads[0].provider
        self.notes = tuple(network.refused for network in networks if network.refused)
        if provider != "auto" and all(head.provider != _PROVIDERS[provider] for head in self._heads):
            raise InputError(
                f"provider {provider}: it takes no head of this bundle "
                f"({self._heads[0].refused or 'see the messages above'}); give cpu"
            )

    @property
    def head_s(self) -> Mapping[int, float]:
        """Seconds of one image through each head."""
        return dict(enumerate([network.time.seconds for network in self._heads]))

    @property
    def exit_s(self) -> float | None:
        """Seconds of one latent through the early exit; None without one."""
        return self._exit.time.seconds if self._exit else None

    @property
    def local_s(self) -> float | None:
        """Seconds of one image through the whole network; None if the bundle carries none."""
        return self._local.time.seconds if self._local else None

    def head(self, width_index: int, image_hwc: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        """Return the latent of an image, and the seconds it took.

        Args:
            width_index: The head.
            image_hwc: uint8 [height, width, channels] of the bundle's input.

        Returns:
            uint8 [channels, height, width] with all latent channels.
        """
        return self._heads[width_index].run(image_hwc)

    def exit(self, latent_chw: NDArray[np.uint8]) -> tuple[int, float]:
        """Return the class the early exit gives to a latent with all channels, and the seconds it took."""
        outputs, seconds = self.exit_scores(latent_chw)
        return int(outputs.argmax()), seconds

    def exit_scores(self, latent_chw: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """Return what the early exit says of a latent with all channels, and the seconds it took.

        Returns:
            float32 [classes], not normalised.
        """
        assert self._exit is not None
        return self._exit.run(latent_chw)

    def local(self, image_hwc: NDArray[np.uint8]) -> tuple[int, float]:
        """Return the class the whole network on this device gives to an image, and the seconds it took."""
        assert self._local is not None
        outputs, seconds = self._local.run(image_hwc)
        return int(outputs.argmax()), seconds


class _Network:
    """One warm session with a single input and a single output; adds and removes the batch axis."""

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        providers: list[str],
        threads: int,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
    ) -> None:
        self._file = bundle.root / name
        self._input_shape = input_shape
        self.time = RecentMedian()
        self.refused = ""
        content = bundle.read(name)
        try:
            outputs = self._load(content, providers, threads)
        except Exception as error:  # ONNX Runtime's errors share no base class but Exception
            if providers == [_CPU]:
                raise self._broken(error) from None
            self.refused = f"{name} runs on {_CPU}: {providers[0]} refused it ({_first_line(error)})"
            try:
                outputs = self._load(content, [_CPU], threads)
            except Exception as second:
                raise self._broken(second) from None
        if outputs.shape != output_shape:
            raise BundleError(
                f"{self._file}: gives {outputs.shape}, not {output_shape} as manifest.json says; "
                "export it again"
            )
        self.provider: str = self._session.get_providers()[0]
        if not self.refused and self.provider != providers[0]:
            self.refused = f"{name} runs on {self.provider}: {providers[0]} could not be set up"

    def _load(self, content: bytes, providers: list[str], threads: int) -> NDArray[Any]:
        options = [
            {"intra_op_num_threads": str(threads)} if provider == _PROVIDERS["xnnpack"] else {}
            for provider in providers
        ]
        self._session = ort.InferenceSession(
            content, session_options(threads), providers=providers, provider_options=options
        )
        (self._input,) = [node.name for node in self._session.get_inputs()]
        (self._output,) = [node.name for node in self._session.get_outputs()]
        return self._warm(np.zeros(self._input_shape, np.uint8))

    def _broken(self, error: Exception) -> BundleError:
        return BundleError(
            f"{self._file}: ONNX Runtime cannot run it ({_first_line(error)}); export the bundle again"
        )

    def run(self, value: NDArray[np.uint8]) -> tuple[NDArray[Any], float]:
        started = time.perf_counter()
        output = self._session.run([self._output], {self._input: value[np.newaxis]})[0][0]
        seconds = time.perf_counter() - started
        self.time.add(seconds)
        return output, seconds

    def _warm(self, value: NDArray[np.uint8]) -> NDArray[Any]:
        output, _ = self.run(value)
        self.time = RecentMedian()
        for _ in range(_WARM_RUNS):
            self.run(value)
        return output


def session_options(threads: int) -> ort.SessionOptions:
    """Return how every session on the device is set up."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def providers_of(choice: ProviderChoice) -> list[str]:
    """Return the execution providers to try, in their order.

    Raises:
        InputError: If this ONNX Runtime lacks the one that is asked for.
    """
    available = ort.get_available_providers()
    if choice == "auto":
        return [_PROVIDERS[name] for name in _AUTOMATIC if _PROVIDERS[name] in available] + [_CPU]
    if choice not in _PROVIDERS:
        raise InputError(f"provider {choice!r}: give auto, {', '.join(_PROVIDERS)}")
    if _PROVIDERS[choice] not in available:
        raise InputError(f"provider {choice}: this ONNX Runtime has {', '.join(available)}; give one of them")
    return [_PROVIDERS[choice]] if choice == "cpu" else [_PROVIDERS[choice], _CPU]
