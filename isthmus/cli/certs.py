"""`isthmus certs`: a private authority, and the certificates it gives to servers and devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._group import verb_group

if TYPE_CHECKING:
    from isthmus.runtime.server.authority import Issued
    from isthmus.runtime.wire.certificate import Certificate

_Folder = Annotated[Path, typer.Option("--folder", "-f", help="Of the authority and its certificates.")]
_Days = Annotated[float, typer.Option(min=0.01, help="How long it is valid.")]
_Renew = Annotated[bool, typer.Option("--renew", help="Replace the one of that name, with a new key.")]
_FOLDER = Path("certs")


def authority(
    folder: _Folder = _FOLDER,
    name: Annotated[str, typer.Option(help="What it is called in certificates.")] = "isthmus",
    days: _Days = 3650,
    as_json: JsonFlag = False,
) -> None:
    """Make a private authority: authority.pem for both ends, authority.key for nobody else.

    Whoever has authority.key can make certificates that your servers and devices trust: keep it off them.
    """
    from isthmus.runtime.server.authority import make_authority

    _tell(make_authority(folder, name=name, days=days), as_json=as_json)


def server(
    name: Annotated[str, typer.Argument(help="Its name, and that of its files.")],
    host: Annotated[
        list[str] | None, typer.Option(help="A name or address it is reached by; again for more.")
    ] = None,
    folder: _Folder = _FOLDER,
    days: _Days = 397,
    renew: _Renew = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the certificate of a server, for the names and addresses that clients use.

    A server that runs takes a renewed one without a restart.
    """
    from isthmus.runtime.server.authority import issue_server

    _tell(issue_server(folder, name, host or [], days=days, renew=renew), as_json=as_json)


def device(
    name: Annotated[str, typer.Argument(help="Its name: its identity on servers, and that of its files.")],
    folder: _Folder = _FOLDER,
    days: _Days = 397,
    renew: _Renew = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the certificate of a device. Copy NAME.pem, NAME.key and authority.pem to it."""
    from isthmus.runtime.server.authority import issue_device

    _tell(issue_device(folder, name, days=days, renew=renew), as_json=as_json)


def revoke(
    certificate: Annotated[str, typer.Argument(help="A name, or a certificate's PEM file.")],
    folder: _Folder = _FOLDER,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a device's certificate: servers that read FOLDER/revoked.txt turn it away within seconds.

    A server reads revoked.txt beside the file of its --client-authority, or the file of its --revoked. What
    was renewed before has another certificate: revoke the old file.
    """
    from isthmus.runtime.server.access import REVOKED
    from isthmus.runtime.server.authority import revoke as revoke_certificate

    named = folder / f"{certificate}.pem"
    fingerprint = revoke_certificate(folder, named if named.exists() else Path(certificate))
    if as_json:
        print_json({"revoked": certificate, "fingerprint": fingerprint, "file": str(folder / REVOKED)})
    else:
        out.print(
            f"revoked {certificate} ({fingerprint[:16]}…) in {folder / REVOKED}", markup=False, soft_wrap=True
        )


def show(
    files: Annotated[list[Path] | None, typer.Argument(help="Certificates [all of the folder].")] = None,
    folder: _Folder = _FOLDER,
    as_json: JsonFlag = False,
) -> None:
    """Show certificates, until when they are valid, and which are revoked.

    Exit code 7 if one has expired or will within 14 days, so that it can be run every night.
    """
    from isthmus.runtime.errors import GateError, InputError
    from isthmus.runtime.server.access import REVOKED, read_revoked
    from isthmus.runtime.wire.certificate import now_utc, read_certificate

    chosen = files or sorted(folder.glob("*.pem"))
    if not chosen:
        raise InputError(f"{folder}: no certificate there; make an authority with 'isthmus certs authority'")
    listed = folder / REVOKED
    revoked = read_revoked(listed.read_text(), source=str(listed)) if listed.exists() else {}
    found = [(file, read_certificate(file)) for file in chosen]
    rows = [_row(file, certificate, certificate.fingerprint in revoked) for file, certificate in found]
    if as_json:
        print_json({"certificates": rows})
    else:
        for row in rows:
            state = "revoked" if row["revoked"] else row["trouble"] or f"valid until {row['not_after'][:10]}"
            out.print(f"{row['file']}: {state}", markup=False, soft_wrap=True)
    ending = [
        str(file)
        for file, certificate in found
        if certificate.fingerprint not in revoked and certificate.trouble(now_utc())
    ]
    if ending:
        raise GateError(f"{', '.join(ending)}: renew with 'isthmus certs server' or 'device' and --renew")


def _row(file: Path, certificate: Certificate, revoked: bool) -> dict[str, Any]:
    from isthmus.runtime.wire.certificate import now_utc

    return {
        "file": str(file),
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "fingerprint": certificate.fingerprint,
        "revoked": revoked,
        "trouble": certificate.trouble(now_utc()),
    }


def _tell(issued: Issued, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "name": issued.name,
                "certificate": str(issued.certificate),
                "key": str(issued.key),
                "not_after": issued.not_after.isoformat(),
                "fingerprint": issued.fingerprint,
            }
        )
        return
    out.print(
        f"{issued.certificate} and {issued.key}, valid until {issued.not_after:%Y-%m-%d}",
        markup=False,
        soft_wrap=True,
    )


app = verb_group(
    "show",
    {"authority": authority, "server": server, "device": device, "revoke": revoke, "show": show},
    "Make and revoke certificates of servers and devices, with a private authority of your own.",
)
