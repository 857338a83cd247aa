"""Files that `make restore` refuses: truncated, damaged, foreign, tampered with, or of another Nexus.

Each is named in one line with the remedy, and nothing is changed, though REPLACE=yes was said.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.host.databases import Database, changed, complaint, database, filled, forged, members
from tests.host.support import Stack
from tests.migrations.conftest import autocommit

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]


class Good(NamedTuple):
    content: bytes
    dump: bytes
    manifest: str
    #: Of a database with other rows.
    other_dump: bytes


@pytest.fixture(scope="module")
def target(stack: Stack) -> Iterator[Database]:
    with database(stack) as made:
        autocommit(made.url, "INSERT INTO users DEFAULT VALUES")
        yield made


@pytest.fixture(scope="module")
def good(stack: Stack, target: Database, tmp_path_factory: pytest.TempPathFactory) -> Good:
    folder = tmp_path_factory.mktemp("good")
    with filled(stack) as source:
        source.backup(folder / "good.tar")
    target.backup(folder / "other.tar")
    found, other = members(folder / "good.tar"), members(folder / "other.tar")
    content = (folder / "good.tar").read_bytes()
    return Good(content, found["nexus.dump"], found["manifest.json"].decode(), other["nexus.dump"])


def refused(target: Database, file: Path | str) -> str:
    before = target.state()
    line = complaint(target.restore(file, check=False, REPLACE="yes"))
    assert target.state() == before
    return line


def written(directory: Path, content: bytes) -> Path:
    file = directory / "x.tar"
    file.write_bytes(content)
    return file


def test_it_is_the_file_that_is_refused(good: Good, stack: Stack, tmp_path: Path) -> None:
    """The same file, put together again as the tests below do it, is restored."""
    with database(stack, None) as empty:
        empty.restore(forged(tmp_path / "x.tar", tmp_path, good.dump, good.manifest.rstrip("\n")))
        assert empty.ask("SELECT count(*) FROM media") == 9


@pytest.mark.parametrize("place", ["nothing", "head", "dump", "end of dump", "manifest", "rest", "last byte"])
def test_truncated(good: Good, target: Database, tmp_path: Path, place: str) -> None:
    size, dump = len(good.content), 512 + len(good.dump)
    kept = {
        "nothing": 0, "head": 300, "dump": 5000, "end of dump": dump, "manifest": dump + 1200,
        "rest": size - 1500, "last byte": size - 1,
    }[place]  # fmt: skip
    file = written(tmp_path, good.content[:kept])
    line = refused(target, file)
    if place == "nothing":
        assert line == f"{file} is empty: take another backup"
    else:
        assert line.startswith(f"{file} is truncated, it has {kept} bytes of ")
        assert line.endswith("take another backup, or another copy of this one")


def test_every_byte_counts(good: Good, target: Database, tmp_path: Path) -> None:
    """One bit of it, in the head, in the dump, and from the end of the dump on at every 41st byte."""
    after = 512 + len(good.dump)
    places = [
        *range(5, 512, 41),
        512,
        512 + len(good.dump) // 2,
        after - 1,
        *range(after, len(good.content), 41),
    ]
    before = target.state()
    kinds = set()
    for place in places:
        content = bytearray(good.content)
        content[place] ^= 0x10
        file = written(tmp_path, bytes(content))
        line = complaint(target.restore(file, check=False, REPLACE="yes"))
        kinds.add(line.removeprefix(f"{file} ").split(",")[0].split(":")[0])
    assert kinds <= {"is damaged", "is truncated", "is no backup of Nexus"}
    assert "is damaged" in kinds
    assert target.state() == before


def test_a_dump_that_was_changed_is_damaged(good: Good, target: Database, tmp_path: Path) -> None:
    place = 512 + len(good.dump) // 2
    content = good.content[:place] + bytes([good.content[place] ^ 1]) + good.content[place + 1 :]
    file = written(tmp_path, content)
    assert refused(target, file) == (
        f"{file} is damaged, the checksum of its dump is another: "
        "take another backup, or another copy of this one"
    )


def test_more_than_a_backup_is_damaged(good: Good, target: Database, tmp_path: Path) -> None:
    line = refused(target, written(tmp_path, good.content + b"\0"))
    assert "is damaged, its manifest is not as written: " in line


@pytest.mark.parametrize("kind", ["text", "zeros", "pg_dump", "tar"])
def test_foreign(good: Good, target: Database, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.tar"
    if kind == "tar":
        (tmp_path / "letter").write_text("dear reader")
        with tarfile.open(file, "w") as archive:
            archive.add(tmp_path / "letter")
    else:
        file.write_bytes({"text": b"SELECT 1;\n" * 500, "zeros": bytes(10_000), "pg_dump": good.dump}[kind])
    assert refused(target, file) == (
        f"{file} is no backup of Nexus: name a file that 'make backup' has written"
    )


def test_of_something_else_than_postgres(good: Good, target: Database, tmp_path: Path) -> None:
    """Checksums that are right, of a dump that is none."""
    manifest = rechecked(good.manifest, b"no dump at all\n" * 40)
    line = refused(target, forged(tmp_path / "x.tar", tmp_path, b"no dump at all\n" * 40, manifest))
    assert "pg_restore cannot read the dump of " in line
    assert line.endswith("set POSTGRES_IMAGE to that release or a newer one")


def rechecked(manifest: str, dump: bytes) -> str:
    """With the checksum and the size of another dump."""
    digest = hashlib.sha256(dump).hexdigest()
    manifest = changed(manifest.rstrip("\n"), "dump_sha256", f'"{digest}"')
    return changed(manifest, "dump_bytes", str(len(dump)))


@pytest.mark.parametrize("what", ["rows", "revision", "dump"])
def test_tampered_with_knowingly(good: Good, target: Database, tmp_path: Path, what: str) -> None:
    """All checksums are right, but dump and manifest do not belong together."""
    manifest, dump = good.manifest.rstrip("\n"), good.dump
    if what == "rows":
        manifest = changed(manifest, "media", "10")
    elif what == "revision":
        manifest = changed(manifest, "revision", '"0001"')
    else:
        dump = good.other_dump
        manifest = rechecked(manifest, dump)
    file = forged(tmp_path / "x.tar", tmp_path, dump, manifest)
    assert refused(target, file) == (
        f"{file} was tampered with, its dump holds other rows or another revision than its manifest: "
        "take another backup"
    )


@pytest.mark.parametrize("revision", ["0003", "9999", "abc"])
def test_of_a_revision_that_is_not_known(good: Good, target: Database, tmp_path: Path, revision: str) -> None:
    manifest = changed(
        changed(good.manifest.rstrip("\n"), "revision", f'"{revision}"'), "product_version", '"7.1"'
    )
    file = forged(tmp_path / "x.tar", tmp_path, good.dump, manifest)
    assert refused(target, file) == (
        f"{file} is of revision {revision}, which this Nexus does not know (its newest is 0002): "
        "restore it with Nexus 7.1, which made it, or a newer one"
    )


def test_of_a_later_format(good: Good, target: Database, tmp_path: Path) -> None:
    manifest = changed(good.manifest.rstrip("\n"), "format_version", "2")
    file = forged(tmp_path / "x.tar", tmp_path, good.dump, manifest)
    assert refused(target, file) == (
        f"{file} has format 2, this Nexus reads 1: restore it with Nexus 0.1.0, which made it"
    )


@pytest.mark.parametrize("key", ["revision", "dump_sha256", "format_version", "dump_bytes"])
def test_a_manifest_that_says_nonsense(good: Good, target: Database, tmp_path: Path, key: str) -> None:
    manifest = changed(good.manifest.rstrip("\n"), key, '"../../x y"')
    file = forged(tmp_path / "x.tar", tmp_path, good.dump, manifest)
    assert f"{file} is damaged, its manifest says too little: " in f"{refused(target, file)}"


def test_no_file(target: Database, tmp_path: Path) -> None:
    assert refused(target, "").startswith("which backup? make restore FILE=backups/")
    line = refused(target, tmp_path / "x.tar")
    assert line.startswith(f"there is no file {tmp_path}/x.tar: name one that 'make backup' has written")
    assert refused(target, tmp_path) == f"{tmp_path} cannot be read: make it a file that you may read"
