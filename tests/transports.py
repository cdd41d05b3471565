"""How a database is reached: by a UNIX socket, over TCP, or over TCP with TLS.

The embedded wheel has no TLS, and a server of somebody's may have none, so a door of ours speaks it for the
server. What a client does on its side is the same.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import attrs
import pytest

from tests.faults.network import url_by_way_of

ROOT = Path(__file__).parents[1]
TRANSPORTS = ("unix", "tcp", "tls")


@attrs.define(eq=False)
class Doors:
    """Doors to one server, each opened when first needed."""

    _server_url: str
    _stack: ExitStack
    _ways: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    """For each transport its port, and the parameters that a URL needs."""

    def url(self, transport: str, database_url: str) -> str:
        """Return the URL by which a database of the server is reached."""
        if transport == "unix":
            return database_url
        if transport not in self._ways:
            self._ways[transport] = self._open_tls() if transport == "tls" else self._open()
        port, parameters = self._ways[transport]
        return url_by_way_of(port, database_url, parameters)

    def _open(self, *certificate_and_key: str) -> tuple[int, str]:
        # No sslmode: by default a client asks for TLS, and goes on without.
        return self._stack.enter_context(_door(self._server_url, *certificate_and_key)), ""

    def _open_tls(self) -> tuple[int, str]:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl to make a certificate with")
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="certificate")))
        certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
        make_certificate(certificate, key)
        port, _ = self._open(certificate, key)
        return port, f"?sslmode=verify-full&sslrootcert={quote(certificate)}"


def make_certificate(certificate: str, key: str) -> None:
    """Make a certificate for 127.0.0.1 that signs itself, and its key."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-out", certificate, "-keyout", key], check=True, capture_output=True)


@contextmanager
def _door(*arguments: str) -> Iterator[int]:
    """Run the program; yield its port."""
    command = [sys.executable, "-m", "tests.door", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=10)


@contextmanager
def open_doors(server_url: str) -> Iterator[Doors]:
    with ExitStack() as stack:
        yield Doors(server_url, stack)
