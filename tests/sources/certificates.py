"""Certificates for a test: an authority, and what it has signed. Made by openssl, good for a day."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sources.origin import Unavailable


@dataclass(frozen=True)
class Certificate:
    """Files in PEM; `both` has the key and the certificate, as Kafka wants them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Raises `Unavailable` without openssl."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=ringlog tests"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def sign(self, name: str, addresses: Sequence[str] = ()) -> Certificate:
        """For a server that is reached at `addresses`, IP addresses or names; or for a client of this name."""
        signed = Certificate(*(self._folder / f"{name}.{suffix}" for suffix in ("crt", "key", "pem")))
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        names = ",".join(("IP:" if _is_ip(address) else "DNS:") + address for address in addresses)
        extensions.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(signed.key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-days", "1", "-CAcreateserial", "-in", str(request), "-out", str(signed.certificate)),
            *("-CA", str(self.certificate), "-CAkey", str(self._key), "-extfile", str(extensions)),
        )
        signed.both.write_text(signed.key.read_text() + signed.certificate.read_text())
        return signed


def _is_ip(address: str) -> bool:
    return address.replace(".", "").isdigit()


def _openssl(*arguments: str) -> None:
    try:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    except FileNotFoundError:
        raise Unavailable("there is no openssl to make certificates with") from None
