"""`isthmus eval`: what a bundle's operating points are worth on test images, answered by the real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._progress import progress
from isthmus.cli._security_flags import AuthorityFlag, CertificateFlag, InsecureFlag, KeyFlag, TokenFlag
from isthmus.runtime.datasets import SPEC_HELP

if TYPE_CHECKING:
    from isthmus.device_agents.evaluate import Evaluation, Share
    from isthmus.runtime.bundle import Bundle


def command(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    dataset: Annotated[str, typer.Option(help=f"Test images: {SPEC_HELP}.")],
    server: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of a server with this bundle [default: one is started and ended again]."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model name on the server [default: the bundle's].")
    ] = None,
    codec: Annotated[str, typer.Option(help="Codec of the payloads.")] = "rans",
    authority: AuthorityFlag = None,
    certificate: CertificateFlag = None,
    key: KeyFlag = None,
    token_file: TokenFlag = None,
    insecure: InsecureFlag = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images, evenly spread.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads per head.")] = 1,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the JSON result here as well.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure every operating point of a bundle on test images: accuracy, payload bytes, head time.

    Heads run here, every payload crosses gRPC, the server runs the tail: the figures are of the real path.
    """
    from isthmus.device_agents.evaluate import evaluate, load_test_images
    from isthmus.runtime.bundle import load_bundle
    from isthmus.runtime.codecs import CODECS
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.wire.tls import ClientSecurity, check_address

    security = ClientSecurity(
        authority=authority, certificate=certificate, key=key, token_file=token_file, insecure=insecure
    )
    if server is not None:
        check_address(server)
        security.check(server)
    elif security != ClientSecurity():
        raise InputError("--authority and the like are about a server that runs; give --server HOST:PORT")
    if codec not in CODECS:
        raise InputError(f"codec {codec!r}: give one of {', '.join(CODECS)}")
    loaded = load_bundle(bundle)
    images = load_test_images(loaded, dataset, limit=limit)
    with progress("starting a server") as show, server_address(server, bundle) as address:
        evaluation = asyncio.run(
            evaluate(
                loaded,
                images,
                server=address,
                model=model,
                codec=codec,
                security=security,
                threads=threads,
                progress=show,
            )
        )
    result = summary(loaded, evaluation)
    if out_file is not None:
        _write(out_file, result)
    if as_json:
        print_json(result)
    else:
        _print(loaded, evaluation)


@contextmanager
def server_address(server: str | None, bundle: Path) -> Iterator[str]:
    """Yield the address of `server`, or of one that lives as long as the block."""
    if server is not None:
        yield server
        return
    from isthmus.cli._processes import Children

    with Children() as children:
        ready = children.start_service(["serve", str(bundle), "--port", "0", "--json"])
        yield f"127.0.0.1:{ready['port']}"


def summary(bundle: Bundle, evaluation: Evaluation) -> dict[str, Any]:
    """Return what `--json` prints and `--out` writes of an evaluation."""
    manifest = bundle.manifest

    def share(value: Share | None) -> dict[str, float] | None:
        return None if value is None else {"value": value.value, "low": value.low, "high": value.high}

    return {
        "bundle": str(bundle.root),
        "digest": bundle.digest,
        "dataset": evaluation.images,
        "images": evaluation.count,
        "server": evaluation.server,
        "codec": evaluation.codec,
        "points": [
            {
                "width": manifest.widths[score.point.width_index],
                "width_index": score.point.width_index,
                "channels": score.point.channels,
                "accuracy": share(score.accuracy),
                "agreement": share(score.agreement),
                "bytes_mean": score.bytes_mean,
                "bytes_p95": score.bytes_p95,
                "bytes_max": score.bytes_max,
                "head_s": score.head_s,
                "expected_utility": bundle.points.record(score.point).utility,
            }
            for score in evaluation.points
        ],
        "exits": [share(value) for value in evaluation.exits],
        "local": share(evaluation.local),
    }


def _write(file: Path, result: dict[str, Any]) -> None:
    from isthmus.runtime.errors import InputError

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; choose another --out") from None


def _print(bundle: Bundle, evaluation: Evaluation) -> None:
    from rich.table import Table

    agrees = any(score.agreement is not None for score in evaluation.points)
    headers = [
        "width",
        "channels",
        "accuracy",
        "bytes",
        "p95",
        "max",
        "head",
        *(["as uncut"] if agrees else []),
    ]
    table = Table(*headers, box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for score in evaluation.points:
        row = [
            f"{bundle.manifest.widths[score.point.width_index]:g}",
            str(score.point.channels),
            _percent(score.accuracy),
            f"{score.bytes_mean:.0f}",
            f"{score.bytes_p95:.0f}",
            str(score.bytes_max),
            f"{score.head_s * 1e3:.2f} ms",
        ]
        if score.agreement is not None:
            row.append(f"{score.agreement.value:.1%}")
        table.add_row(*row)
    out.print(table)
    for width_index, value in enumerate(evaluation.exits):
        out.print(f"early exit, width {bundle.manifest.widths[width_index]:g}: {_percent(value)}")
    if evaluation.local is not None:
        out.print(f"uncut on the device: {_percent(evaluation.local)}")
    out.print(
        f"{evaluation.images}: {evaluation.count} images, ± is the 95 % interval; "
        f"payloads by {evaluation.codec}, answers from {evaluation.server}",
        soft_wrap=True,
    )


def _percent(share: Share) -> str:
    return f"{share.value:.1%} ± {100 * share.margin:.1f}"
