"""Each session answers one question. `nox` alone asks what CI asks; `nox -l` lists them all."""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

nox.options.sessions = ["lint", "types", f"tests-{THIS_PYTHON}", "examples", "docs"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False
nox.options.stop_on_first_error = False

if THIS_PYTHON not in PYTHONS:
    raise SystemExit(f"Python {THIS_PYTHON} is not supported; run nox with one of {', '.join(PYTHONS)}")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group: pip learned to read them only in 25.1."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Does it read as one text, and does every import point downward?"""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    # ruff lacks the rules about awaits in finally, swallowed cancellations and nurseries left running.
    # Left out: 114 and 128, which do not see a task_status that is handed on; 120 and 9xx, which want a
    # checkpoint on every path; in tests 124, since what is async there decides under which loop it runs.
    rules = ["--select=ASYNC1,ASYNC2,ASYNC3", "--ignore=ASYNC114,ASYNC120,ASYNC128"]
    rules.append("--per-file-ignores=tests/*:ASYNC124")
    session.run("flake8", *rules, "trio_graphile", "tests", "examples")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Do the types hold, ours and those of the API as a user types it?"""
    session.install("-e", ".[all]", "nox", *group("types"))
    session.run("mypy")
    environment = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # else it asks npm's registry for a newer one
    session.run("pyright", env=environment)
    session.run("pyright", "--verifytypes", "trio_graphile", "--ignoreexternal", env=environment)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Does it do what it says? Arguments go to pytest: `nox -s tests-3.12 -- tests/database -k keyed`."""
    session.install("-e", ".[all]", *group("tests"))
    workers = [] if session.posargs else ["-n", "auto", "--maxprocesses", "4", "--dist=loadgroup"]
    run_pytest(session, *workers, *session.posargs)


@nox.session
def exhaustive(session: nox.Session) -> None:
    """Does the guarantee hold at every scheduling point, not only at the sampled ones?"""
    session.install("-e", ".[all]", *group("tests"))
    run_pytest(session, "tests/scenarios", "--exhaustive", "--timeout=3600", "-n", "auto", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Is nothing lost, and no slot, whatever goes wrong? For ten minutes, or `-- --seconds=60 --seed=7`."""
    session.install("-e", ".[all]", *group("tests"))
    run_pytest(session, "tests/faults/test_soak.py", "--seconds=600", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Which lines does no test run?"""
    session.install("-e", ".[all]", *group("tests"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs, env=npm_cache(session))
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def examples(session: nox.Session) -> None:
    """Do the example programs run, on what a user would install?"""
    # A wheel, not an editable install: a file that is not shipped is missed here.
    session.install("--force-reinstall", "--no-deps", ".")
    session.install(".[all]")
    with session.chdir(session.create_tmp()):
        for program in sorted((ROOT / "examples").glob("*.py")):
            session.run("python", str(program))


@nox.session
def docs(session: nox.Session) -> None:
    """Do the pages build without a warning, and do their snippets run?"""
    session.install("-e", ".[all]", *group("docs"), *group("tests"))
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")
    run_pytest(session, "tests/test_docs.py")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """How fast is it beside its peers, on the same server in the same run?"""
    if not (ROOT / "tests" / "benchmarks" / "__main__.py").exists():
        session.skip("there are no benchmarks yet")
    session.install(".[all]")
    session.run("python", "tests/benchmarks", *session.posargs, env=npm_cache(session))


@nox.session
def changelog(session: nox.Session) -> None:
    """What would the next release announce?"""
    session.install(*group("changelog"))
    session.run("towncrier", "build", "--draft", "--version", PYPROJECT["project"]["version"])


def run_pytest(session: nox.Session, *arguments: str) -> None:
    session.run("pytest", *arguments, env=npm_cache(session))


def npm_cache(session: nox.Session) -> dict[str, str]:
    """Keep npm's downloads in .nox: an account may have no home."""
    return {"npm_config_cache": str(session.cache_dir.resolve() / "npm")}
