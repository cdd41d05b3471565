"""What counts as a change."""

from __future__ import annotations

from pathlib import Path

from trio_graphile.cli._reload import take_snapshot


def test_sources_are_looked_at_and_nothing_else(tmp_path: Path) -> None:
    wanted = ["a.py", "sub/b.py", "c.toml", "d.cron"]
    unwanted = [".hidden/a.py", "node_modules/a.py", "sub/__pycache__/a.py", "notes.txt"]
    for name in (*wanted, *unwanted):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    snapshot = take_snapshot(tmp_path, (tmp_path / "notes.txt", tmp_path / "missing.txt"))
    assert snapshot.keys() == {tmp_path / name for name in (*wanted, "notes.txt")}
    (tmp_path / "a.py").write_text("another length")
    assert take_snapshot(tmp_path, (tmp_path / "notes.txt",)) != snapshot
