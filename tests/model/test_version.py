from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

import pytest

from trio_graphile._model.version import installed_version


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    installed_version.cache_clear()
    yield
    installed_version.cache_clear()


def test_the_version_is_that_of_the_installed_package() -> None:
    assert installed_version() == metadata.version("trio-graphile")


def _no_package(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def test_sources_that_were_never_installed_have_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", _no_package)
    assert installed_version() is None


def test_the_version_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    version = installed_version()
    monkeypatch.setattr(metadata, "version", _no_package)
    assert installed_version() == version
