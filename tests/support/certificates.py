"""Certificates for tests, made by the openssl program."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority's certificate, and a certificate of 127.0.0.1 with its key, for servers and clients."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make a new authority and one certificate below it, valid for a day."""
    made = Certificates(directory / "ca.pem", directory / "peer.pem", directory / "peer.key")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    authority_key = directory / "ca.key"
    _openssl(*new, "-subj", "/CN=authority", "-keyout", authority_key, "-out", made.authority)
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "extendedKeyUsage=serverAuth,clientAuth")
    signed = ("-CA", made.authority, "-CAkey", authority_key, "-addext", "basicConstraints=critical,CA:FALSE")
    _openssl(*new, "-subj", "/CN=peer", *names, *signed, "-keyout", made.key, "-out", made.certificate)
    return made


def _openssl(*args: str | Path) -> None:
    subprocess.run(["openssl", *args], check=True, capture_output=True)
