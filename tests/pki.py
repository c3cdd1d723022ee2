"""A private authority in a folder of a test, and certificates as good or bad as the test wants them."""

from dataclasses import dataclass
from pathlib import Path

from isthmus.runtime.server import authority
from isthmus.runtime.wire.tls import ClientSecurity


@dataclass
class Pki:
    """One authority; what it makes lies in `folder`."""

    folder: Path

    def __post_init__(self):
        authority.make_authority(self.folder)

    @property
    def authority(self):
        return self.folder / "authority.pem"

    def server(self, name="server", hosts=("127.0.0.1", "localhost"), *, days=30.0, renew=False):
        return authority.issue_server(self.folder, name, hosts, days=days, renew=renew)

    def device(self, name="camera-1", *, days=30.0, renew=False):
        return authority.issue_device(self.folder, name, days=days, renew=renew)

    def revoke(self, name):
        return authority.revoke(self.folder, self.folder / f"{name}.pem")

    def serving(self, *, mutual=True, server="server"):
        """Return the fields of a server's configuration; makes the certificate at first use."""
        made = self.folder / f"{server}.pem"
        if not made.exists():
            self.server(server)
        fields = {"certificate": made, "key": made.with_suffix(".key")}
        return {**fields, "client_authority": self.authority} if mutual else fields

    def serving_flags(self, **options):
        return [
            part
            for name, value in self.serving(**options).items()
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]

    def client(self, device="camera-1", **changes):
        """Return how a device speaks to the server; None: without a certificate of its own."""
        fields = {"authority": self.authority}
        if device is not None:
            made = self.folder / f"{device}.pem"
            if not made.exists():
                self.device(device)
            fields |= {"certificate": made, "key": made.with_suffix(".key")}
        return ClientSecurity(**{**fields, **changes})


def flags_of(security):
    """Return the command line flags of a `ClientSecurity`."""
    flags = []
    for name in ("authority", "certificate", "key", "token_file"):
        value = getattr(security, name)
        if value is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return [*flags, "--insecure"] if security.insecure else flags
