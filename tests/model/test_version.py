from __future__ import annotations

from importlib import metadata

import pytest

from trio_graphile._model.version import installed_version


def test_the_version_is_that_of_the_installed_package() -> None:
    assert installed_version() == metadata.version("trio-graphile")


def test_sources_that_were_never_installed_have_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_package(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", no_package)
    assert installed_version() is None
