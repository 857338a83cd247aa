"""The revisions this code knows, without alembic: the worker's image has none."""

from pathlib import Path

VERSIONS = Path(__file__).parents[3] / "db" / "alembic" / "versions"


def known_revisions() -> list[str]:
    """Their ids, oldest first. A file is named after its revision, and they are numbered: tests hold both."""
    return sorted(path.name[:4] for path in VERSIONS.glob("[0-9][0-9][0-9][0-9]_*.py"))


def head_revision() -> str:
    """The newest revision this code knows."""
    return known_revisions()[-1]
