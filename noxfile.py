"""Each session answers one question. `nox` alone asks what CI asks; `nox -l` lists them all."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox
from nox.command import CommandFailed
from packaging.requirements import Requirement

nox.needs_version = ">=2025.5.1"

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
"""The supported versions, the oldest first."""
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PRERELEASED = ("trio", "asyncpg", "cattrs", "croniter", "orjson")
"""What `nox -s newest` installs as new as it gets."""
IN_PARALLEL = ("-n", str(min(4, 2 * (os.cpu_count() or 1))), "--dist=worksteal")
"""Twice as many processes as cores, for tests wait more than they compute; each has a server of its own."""
BETWEEN = (
    "tests/scenarios",
    "tests/admin",
    "tests/cli",
    "tests/conformance",
    "tests/database",
    "tests/environments",
    "tests/interop",
    "tests/faults",
    "tests/storm",
    "tests/testing/test_pytest_plugin.py",
    "tests/test_docs.py",
    "tests/test_embedded.py",
    "tests/test_shares.py",
    "tests/test_walkthrough.py",
)
"""What runs on the Pythons between the oldest and the newest: the tests that try a share of what they sample,
or are dealt, such as scheduling points, commands, pages, SQL, examples, servers and networks that fail, and
workers of other languages; and those among them that depend on Python."""
HARNESS = "tests/scenarios/"
"""Whatever fails there has failed: those tests end a worker at each point, and nothing is left to chance."""
MOST_UNSTEADY = 3


def programs_of(version: str) -> Iterator[str]:
    """Yield the programs that may be this version of Python: on PATH, then pyenv's, the latest first."""
    if version == THIS_PYTHON:
        yield sys.executable
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    installed = root.glob(f"versions/{version}.*") if os.access(root, os.X_OK) else ()  # it may be another's
    folders = {
        tuple(map(int, folder.name.split("."))): folder
        for folder in installed
        if re.fullmatch(r"[0-9.]+", folder.name)
    }
    for _, folder in sorted(folders.items(), reverse=True):
        yield str(folder / "bin" / f"python{version}")


def is_python(program: str, version: str) -> bool:
    """Whether it runs, and is that version: a program that pyenv put on PATH may be none."""
    asked = [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        run = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603  # ours
    except OSError:
        return False
    return run.stdout.strip() == version


def find_pythons() -> dict[str, str]:
    """Return where the supported versions are that can be run here, the oldest first."""
    found = {}
    for version in PYTHONS:
        for program in programs_of(version):
            if is_python(program, version):
                found[version] = program
                break
    return found


FOUND = find_pythons()

nox.options.sessions = ["lint", "types", *(f"share-{version}" for version in FOUND), "examples", "docs"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
nox.options.stop_on_first_error = False

if THIS_PYTHON not in PYTHONS:
    raise SystemExit(f"Python {THIS_PYTHON} is not supported; run nox with one of {', '.join(PYTHONS)}")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group: pip learned to read them only in 25.1."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Does it read as one text, and does every import point downward?"""
    session.install("--no-compile", *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    # ruff lacks the rules about awaits in finally, swallowed cancellations and nurseries left running.
    # Left out: 114 and 128, which do not see a task_status that is handed on; 120 and 9xx, which want a
    # checkpoint on every path; in tests 124, since what is async there decides under which loop it runs.
    rules = ["--select=ASYNC1,ASYNC2,ASYNC3", "--ignore=ASYNC114,ASYNC120,ASYNC128"]
    rules += ["--per-file-ignores=tests/*:ASYNC124"]
    session.run("flake8", *rules, *asynchronous_modules(), log=False)  # hundreds of names
    session.run("lint-imports")


def asynchronous_modules() -> list[str]:
    """Return the modules in which something can be cancelled, for flake8 takes a second for 400 lines.

    Modules of tests are left to ruff: they are half of all.
    """
    return [
        str(module.relative_to(ROOT))
        for folder in ("trio_graphile", "tests", "examples")
        for module in sorted((ROOT / folder).rglob("*.py"))
        if not module.name.startswith("test_") and re.search(r"\basync\b", module.read_text())
    ]


@nox.session
def types(session: nox.Session) -> None:
    """Do the types hold, ours and those of the API as a user types it?"""
    session.install("--no-compile", "-e", ".[all]", "nox", *group("types"))
    environment = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # else it asks npm's registry for a newer one
    checks = (["mypy"], ["pyright"], ["pyright", "--verifytypes", "trio_graphile", "--ignoreexternal"])
    run_two_at_a_time(session, checks, environment)


def tests(session: nox.Session) -> None:
    """Does it do what it says? Arguments go to pytest: `nox -s tests-3.12 -- tests/database -k keyed`."""
    session.install("-e", ".[all]", *group("tests"))
    workers = [] if session.posargs else IN_PARALLEL
    run_pytest(session, *workers, *session.posargs)


def share(session: nox.Session) -> None:
    """Does it do so on every Python that is here? Of what is sampled, each tries another share."""
    versions = list(FOUND)
    version = session.name.removeprefix("share-")
    number = versions.index(version) + 1
    whole = version in (versions[0], versions[-1])
    session.log(
        f"Found Python {', '.join(versions)}. This is {version}: "
        f"{'the whole suite' if whole else 'in part'}, share {number} of {len(versions)}."
    )
    session.install("-e", ".[all]", *group("tests"))
    arguments = [*IN_PARALLEL, f"--share={number}/{len(versions)}"]
    run_again_alone(session, *arguments, *([] if whole else BETWEEN))


for _version in PYTHONS:
    nox.session(name=f"tests-{_version}", python=FOUND.get(_version, _version), tags=["tests"])(tests)
for _version in FOUND:
    nox.session(name=f"share-{_version}", python=FOUND[_version])(share)


@nox.session(python=next(iter(FOUND.values())))
def oldest(session: nox.Session) -> None:
    """Does it run with the oldest dependencies that it allows?"""
    constraints = Path(session.virtualenv.location) / "oldest.txt"  # a folder of nox's would be $TMPDIR
    constraints.write_text("\n".join(lower_bounds()) + "\n")
    session.log(f"With {', '.join(lower_bounds())}")
    session.install("-e", ".[all]", "--constraint", str(constraints), *group("tests"))
    run_pytest(session, *IN_PARALLEL, *session.posargs)


@nox.session(python=list(FOUND.values())[-1])
def newest(session: nox.Session) -> None:
    """Would it run with the newest dependencies, those included that it does not allow yet?"""
    session.install("-e", ".[all]", *group("tests"))
    # By itself: pip then goes beyond the upper bounds of ours, and only says so.
    session.install("--pre", "--upgrade", *PRERELEASED)
    session.run("python", "-m", "pip", "freeze", "--exclude-editable")
    run_pytest(session, *IN_PARALLEL, *session.posargs)


@nox.session
def exhaustive(session: nox.Session) -> None:
    """Does the guarantee hold at every scheduling point, and between all kinds of workers?"""
    session.install("-e", ".[all]", *group("tests"))
    folders = ("tests/scenarios", "tests/conformance", "tests/environments")
    run_pytest(session, *folders, "--exhaustive", "--timeout=3600", "-n", "auto", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Is nothing lost, and no slot, whatever goes wrong? For ten minutes, or `-- --seconds=60 --seed=7`."""
    session.install("-e", ".[all]", *group("tests"))
    run_pytest(session, "tests/faults/test_soak.py", "--seconds=600", *session.posargs)


@nox.session
def storm(session: nox.Session) -> None:
    """What becomes of jobs when a fleet is replaced under load: ours, and others? See tests/storm."""
    session.install(".[all]")
    session.run("python", "tests/storm", *session.posargs, env=npm_cache(session))


@nox.session
def coverage(session: nox.Session) -> None:
    """Which lines does no test run?"""
    session.install("-e", ".[all]", *group("tests"))
    session.run("coverage", "erase")
    run = ("coverage", "run", "-m", "pytest", *IN_PARALLEL, *session.posargs)
    # Measured tests are slower, and one may miss a time limit: the report is wanted all the same.
    session.run(*run, env=npm_cache(session), success_codes=[0, 1])
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def examples(session: nox.Session) -> None:
    """Do the example programs run, on what a user would install?"""
    # A wheel, not an editable install: a file that is not shipped is missed here.
    session.install("--force-reinstall", "--no-deps", ".")
    session.install("--no-compile", ".[all]", *group("examples"))
    programs = sorted(map(str, (ROOT / "examples").glob("*.py")))
    with session.chdir(session.create_tmp()):
        run_two_at_a_time(session, [["python", program] for program in programs])


@nox.session
def docs(session: nox.Session) -> None:
    """Do the pages build without a warning? Whether their snippets run is for `tests` to say."""
    groups = (*group("docs"), *group("tests"))  # the pytest plugin is imported, too
    session.install("--no-compile", "-e", ".[all]", *groups)
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """How fast is it beside its peers, on the same server in the same run?"""
    session.install(".[all]")
    session.run("python", "tests/benchmarks", *session.posargs, env=npm_cache(session))


@nox.session
def endurance(session: nox.Session) -> None:
    """Do tables and memory stay flat, and jobs prompt? For six hours, or `-- --seconds=1800 --pinned`."""
    session.install(".[all]")
    six_hours = ("--rate=10000", "--seconds=21600", "--period=600", "--prefetch=500")
    session.run("python", "tests/benchmarks/endurance.py", *(session.posargs or six_hours))


@nox.session
def release(session: nox.Session) -> None:
    """Is it fit to be released: what does it bring along, and does it run where nothing else is?"""
    folder = Path(session.create_tmp()).resolve()
    session.install(*group("release"))
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    session.run("twine", "check", "--strict", *map(str, (folder / "dist").iterdir()))
    [wheel] = (folder / "dist").glob("*.whl")
    extras = ["", *PYPROJECT["project"]["optional-dependencies"]]
    for extra in extras:
        session.run("python", "-m", "venv", "--clear", str(folder / f"with-{extra}"))
        python = str(folder / f"with-{extra}" / "bin" / "python")
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        session.run(python, "-m", "pip", "install", "-q", wanted, external=True)
        session.run(python, "-c", FOOTPRINT, external=True)
    python = str(folder / f"with-{extras[-1]}" / "bin" / "python")
    requirements = folder / "requirements.txt"
    frozen = str(session.run(python, "-m", "pip", "freeze", external=True, silent=True))
    requirements.write_text("".join(line + "\n" for line in frozen.splitlines() if " @ " not in line))
    session.run("pip-licenses", f"--python={python}", "--order=license", "--with-urls")
    with session.chdir(folder):
        session.run(python, str(ROOT / "examples" / "simple.py"), external=True)
    # Strict, or it would pass where the list of vulnerabilities cannot be read.
    session.run("pip-audit", "--strict", "--no-deps", "--requirement", str(requirements))


FOOTPRINT = """
import pathlib, sysconfig, time

folder = pathlib.Path(sysconfig.get_path("purelib"))
size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
began = time.perf_counter()
import trio_graphile
lazily = time.perf_counter() - began
from trio_graphile import Client, TaskRegistry, Worker, open_database
print(f"{size / 2**20:.0f} MiB installed, pip included; ", end="")
print(f"import trio_graphile: {lazily * 1000:.0f} ms, ", end="")
print(f"with Client, Worker and open_database: {(time.perf_counter() - began) * 1000:.0f} ms")
"""
"""What `nox -s release` prints of each extra: how large it is, and how long it takes to be imported."""


@nox.session
def changelog(session: nox.Session) -> None:
    """What would the next release announce?"""
    session.install(*group("changelog"))
    session.run("towncrier", "build", "--draft", "--version", PYPROJECT["project"]["version"])


def lower_bounds() -> list[str]:
    """Return the requirements of the package and its extras, each pinned to the oldest version it allows."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    texts = [*PYPROJECT["project"]["dependencies"], *itertools.chain(*extras.values())]
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in map(Requirement, texts)
        for bound in requirement.specifier
        if bound.operator == ">="
    ]


def run_two_at_a_time(
    session: nox.Session, commands: Iterable[list[str]], environment: Mapping[str, str] | None = None
) -> None:
    """Run commands, and log what each says when it has ended. Each uses one core, or waits a lot."""
    with ThreadPoolExecutor(2) as two:
        for said in two.map(lambda command: session.run(*command, env=environment, silent=True), commands):
            session.log(said)


def run_pytest(session: nox.Session, *arguments: str) -> None:
    # Programs that tests start may keep no bytecode: each of them would compile what it imports anew.
    session.run("python", "-m", "compileall", "-q", "trio_graphile")
    session.run("pytest", *arguments, env=npm_cache(session))


def run_again_alone(session: nox.Session, *arguments: str) -> None:
    """Run pytest; run the few tests that fail once more, with nothing beside them, but for the harness's.

    What passes then is called unsteady. That is a fault of the test or of ours, too, and is to be mended.
    """
    cache = Path(session.virtualenv.location).resolve() / "pytest"
    keeping = ("-o", f"cache_dir={cache}")
    try:
        run_pytest(session, "--cache-clear", *keeping, *arguments)
    except CommandFailed:
        record = cache / "v" / "cache" / "lastfailed"
        failed = list(json.loads(record.read_text())) if record.exists() else []
        if not failed or len(failed) > MOST_UNSTEADY or any(test.startswith(HARNESS) for test in failed):
            raise
        session.warn(f"Once more, with nothing beside them: {', '.join(failed)}")
        run_pytest(session, *keeping, *failed)
        session.warn(f"UNSTEADY: {', '.join(failed)}")


def npm_cache(session: nox.Session) -> dict[str, str]:
    """Keep npm's downloads in .nox: an account may have no home."""
    return {"npm_config_cache": str(session.cache_dir.resolve() / "npm")}
