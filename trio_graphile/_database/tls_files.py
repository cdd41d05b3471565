"""The files for TLS that an address names: whether they are there, and hold what they should."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import attrs

from trio_graphile._exceptions import DatabaseUrlInvalid

SYSTEM = "system"
"""What stands for the certificates that the system trusts, in the place of a file."""

_VARIABLES = {
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}
_USUAL = {
    # What the driver takes from ~/.postgresql if nothing is said.
    "sslrootcert": "root.crt",
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
    "sslcrl": "root.crl",
}


@attrs.frozen(kw_only=True)
class TlsFiles:
    """The files of one address."""

    named: Mapping[str, str] = attrs.field(factory=dict)
    """Those that it names, by parameter."""
    password: str = attrs.field(default="", repr=False)
    """That of the key."""

    @classmethod
    def of(cls, parameters: Mapping[str, str], environment: Mapping[str, str]) -> TlsFiles:
        """Return those of a URL, else of the variables. Raises `DatabaseUrlInvalid` if one is not there."""
        found = {
            name: file
            for name, variable in _VARIABLES.items()
            if (file := parameters.get(name) or environment.get(variable))
            and (name, file) != ("sslrootcert", SYSTEM)
        }
        for name, file in found.items():
            if not Path(file).is_file():
                raise DatabaseUrlInvalid(f"{name}: there is no file {file}")
            if not os.access(file, os.R_OK):
                raise DatabaseUrlInvalid(f"{name}: the file {file} cannot be read")
        return cls(named=found, password=parameters.get("sslpassword", ""))

    def show_certificate(self, context: ssl.SSLContext) -> None:
        """Have a context show the certificate, if one is named. Raises `DatabaseUrlInvalid`."""
        if certificate := self.named.get("sslcert"):
            self._show(context, certificate, self.named.get("sslkey"))

    def find_mistake(self) -> str | None:
        """Say which file the driver cannot use; None if it can use all that are there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for name in ("sslrootcert", "sslcrl"):
            if file := self._file(name):
                try:
                    context.load_verify_locations(file)
                except OSError as error:
                    return f"{name}: the file {file} cannot be used: {error}"
        if certificate := self._file("sslcert"):
            try:
                self._show(context, certificate, self._file("sslkey"))
            except DatabaseUrlInvalid as error:
                return str(error)
        return None

    def _show(self, context: ssl.SSLContext, certificate: str, key: str | None) -> None:
        try:
            context.load_cert_chain(certificate, key, password=lambda: self.password)
        except OSError as error:
            files = f"the file {certificate}" + (f", or its key {key}," if key else "")
            raise DatabaseUrlInvalid(f"sslcert: {files} cannot be used: {error}") from error

    def _file(self, name: str) -> str | None:
        if file := self.named.get(name):
            return file
        usual = Path("~/.postgresql").expanduser() / _USUAL[name]
        return str(usual) if usual.is_file() else None
