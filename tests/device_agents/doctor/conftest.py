"""Certificates made by the `openssl` tool: real ones, whose dates we know."""

import shutil
import subprocess

import pytest


@pytest.fixture
def make_certificate(tmp_path):
    """Return `make(days=90) -> (certificate file, key file)`; skips where there is no openssl."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("no openssl tool here")

    def make(*, days):
        certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        command = [
            tool,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        command += ["-keyout", str(key), "-out", str(certificate), "-days", str(days), "-subj", "/CN=edge"]
        subprocess.run(command, check=True, capture_output=True)
        return certificate, key

    return make
