"""What every command that speaks to a server is told about TLS and about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AuthorityFlag = Annotated[
    Path | None, typer.Option(help="PEM file that vouches for the server: TLS [the system's authorities].")
]
CertificateFlag = Annotated[
    Path | None, typer.Option(help="This client's certificate, for a server that asks for one.")
]
KeyFlag = Annotated[Path | None, typer.Option(help="PEM file of its private key.")]
TokenFlag = Annotated[
    Path | None, typer.Option(help="File with this client's token, for a server that asks for one.")
]
InsecureFlag = Annotated[
    bool, typer.Option("--insecure", help="Allow plain text to a server that is not this host.")
]
