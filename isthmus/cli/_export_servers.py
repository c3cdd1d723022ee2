"""`isthmus export --triton` and `--mlserver`: a bundle's tail, as other servers want it on their disks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from isthmus.cli._common import out, print_json

if TYPE_CHECKING:
    from isthmus.runtime.bundle import Bundle
    from isthmus.runtime.server.hosting import TritonBackend

TritonFlag = Annotated[
    Path | None, typer.Option("--triton", help="Write the tail into this model repository of Triton.")
]
MlserverFlag = Annotated[
    Path | None, typer.Option("--mlserver", help="Write the tail into this model folder of MLServer.")
]
TritonBackendFlag = Annotated[
    str, typer.Option(help="Triton's backend: onnxruntime, or python where it has no other.")
]
MaxBatchFlag = Annotated[int, typer.Option(min=1, max=4096, help="Most latents of a batch in Triton.")]

# What a bundle takes; the other flags are for checkpoints.
_OF_BUNDLES = frozenset({"--triton", "--mlserver", "--triton-backend", "--max-batch", "--json"})
# As many as our own server lets wait.
_QUEUE_FRAMES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFiles:
    """What is to be written for other servers.

    Attributes:
        triton: Model repository; None: nothing for Triton.
        mlserver: Model folder; None: nothing for MLServer.
        triton_backend: "onnxruntime" or "python".
        max_batch: Most latents of a batch in Triton.
    """

    triton: Path | None
    mlserver: Path | None
    triton_backend: str
    max_batch: int

    @property
    def wanted(self) -> bool:
        """Say whether there is anything to write."""
        return self.triton is not None or self.mlserver is not None

    def check(self) -> None:
        """Refuse a backend that is none, before anything is loaded.

        Raises:
            InputError: If there is no such backend.
        """
        _backend(self.triton_backend)

    def write(self, bundle: Bundle) -> dict[str, str]:
        """Write the files and return the directories by server.

        Raises:
            InputError: If there is no such backend, a number is out of range, or a folder cannot be written.
            BundleError: If other servers cannot serve the tail.
        """
        from isthmus.runtime.server.hosting import write_mlserver_folder, write_triton_repository

        written = {}
        if self.triton is not None:
            folder = write_triton_repository(
                bundle,
                self.triton,
                backend=_backend(self.triton_backend),
                max_batch=self.max_batch,
                queue_frames=max(_QUEUE_FRAMES, self.max_batch),
            )
            written["triton"] = str(folder)
        if self.mlserver is not None:
            written["mlserver"] = str(write_mlserver_folder(bundle, self.mlserver))
        return written


def is_bundle(path: Path) -> bool:
    """Say whether `path` is meant as a bundle; whether it is a good one, loading it tells."""
    from isthmus.runtime.bundle import MANIFEST

    return (path / MANIFEST).is_file()


def flags_given(context: typer.Context) -> list[str]:
    """Return the flags of the command line, whatever their values."""
    options = [one for one in context.command.params if one.param_type_name == "option"]
    sources = {one.opts[0]: context.get_parameter_source(one.name or "") for one in options}
    return [flag for flag, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def export_for_servers(root: Path, files: ServerFiles, flags: Collection[str], *, as_json: bool) -> None:
    """Write the bundle in `root` for other servers and say so.

    Args:
        root: The bundle; it stays as it is.
        files: What is to be written.
        flags: Those given, of which a bundle takes few.
        as_json: Whether to print JSON.

    Raises:
        InputError: If one is for checkpoints alone, nothing is to be written, or as `ServerFiles.write`.
        BundleError: As `ServerFiles.write`.
    """
    from isthmus.runtime.bundle import load_bundle
    from isthmus.runtime.errors import InputError

    if not files.wanted:
        raise InputError(f"{root} is a bundle: say --triton DIR or --mlserver DIR, or give a checkpoint")
    if ignored := [flag for flag in flags if flag not in _OF_BUNDLES]:
        raise InputError(f"{root} is a bundle, which is left as it is: leave out {', '.join(ignored)}")
    bundle = load_bundle(root)
    written = files.write(bundle)
    if as_json:
        print_json({"bundle": str(bundle.root), "digest": bundle.digest, "servers": written})
    else:
        print_servers(written)


def print_servers(written: dict[str, str]) -> None:
    """Print where the tail was written and how it is served from there."""
    start = {"triton": "tritonserver --model-repository={}", "mlserver": "mlserver start {}"}
    for server, folder in written.items():
        serve = start[server].format(Path(folder).parent)
        out.print(f"{folder}: serve it with '{serve}'", markup=False, soft_wrap=True)


def _backend(name: str) -> TritonBackend:
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.server.hosting import TritonBackend

    if name not in get_args(TritonBackend):
        raise InputError(f"--triton-backend {name}: give {' or '.join(get_args(TritonBackend))}")
    return cast("TritonBackend", name)
