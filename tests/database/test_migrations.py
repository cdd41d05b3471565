"""Our migrations, which stay what they were."""

from __future__ import annotations

from hashlib import sha256

from trio_graphile._database.schema import own_migrations

HASHES = {
    "000001_foundation": "3e733fcc4926be287dd7375942c96b4064032ce0ad2633b7bc6126753842cd4d",
    "000002_functions": "09e4909931c1e82778c77b17a3b21d8f7e14555fe9ea6bc9ca224e0f89116096",
    "000003_recovery": "f7a741ffed7d10790d6c02ab5f07530b4b976d59449df86ebb51618b7dad8686",
    "000004_indexes": "de99294ada314b3038ec307f5ef59bcd972e5ef078ab06bddd4d2f8ba8ca32fd",
    "000005_cancellations": "b5fc4fb00bac9a61eb4e5870fb08e2acbe23b78ff93a22eee41eb10cbfb080c2",
    "000006_complete_job": "2b47a60cfd0bfe6b0daefb6786e77f0d8604ab321da71272ba8ea0baa2d8024d",
    "000007_indexes": "32482079dfe9fab078115a5861807c74995a193cbf091213c2e62cdd34fafc4f",
    "000008_retirements": "c38e2c3c9ba6d0c01208250bcb7322d5276b24f686c30c17d84d27bb6da8f67f",
    "000009_failed_index": "5ee515fa453eeca59844706b4786162d34908f6ea2b58e239c8e8fbf418b02e2",
    "000010_samples": "170d404c100ff6a7ac62701ae8ead8241011b7bfd646222c5d212365c33349ef",
}
"""The SHA-256 of the text of each."""


def found() -> dict[str, str]:
    return {each.name: sha256(each.statement.text.encode()).hexdigest() for each in own_migrations()}


def test_no_migration_has_changed() -> None:
    """A database that has it already would not get the change."""
    now = found()
    changed = {name: now.get(name) for name, was in HASHES.items() if now.get(name) != was}
    assert changed == {}, (
        "A migration that was released never changes, not even in a comment: where it has run, it is not "
        "run again. Take the change back, and write a new migration. "
        "Only if no release has this one yet, write its new hash here."
    )


def test_each_migration_has_its_hash_here() -> None:
    """Else it could be changed once it is released."""
    missing = {name: now for name, now in found().items() if name not in HASHES}
    assert missing == {}, "Write the hash of the new migration here."
