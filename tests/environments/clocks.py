"""Programs whose clock is not ours: libfaketime, set while they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.folders import let_others_in

_LIBRARIES = ("libfaketimeMT.so.1", "libfaketime.so.1")
_FOLDERS = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")


class Clock:
    """The clock of the programs that get its environment. Their monotonic clock stays the machine's."""

    def __init__(self, folder: Path) -> None:
        found = [path for place in _FOLDERS for name in _LIBRARIES if (path := Path(place, name)).exists()]
        if not found:
            pytest.skip("libfaketime is not installed")
        let_others_in(folder)
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Set it forward or back, as in `+1h` or `-10m`."""
        new = self._file.with_name("clock.new")
        new.write_text(f"{offset}\n")
        new.chmod(0o644)
        new.replace(self._file)
