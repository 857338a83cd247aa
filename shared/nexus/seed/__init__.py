"""Two complete public-domain texts for the local database, so that there is something to read at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from uuid import UUID, uuid5

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from nexus.db.models import Fragment, Media, ProcessingStatus, User

#: Ids are derived from the file's name, so that a second run finds what the first one made.
_NAMESPACE = UUID("6e657875-7300-5000-8000-73656564da7a")
#: Owner of media that nobody uploaded; revision 0002 makes it.
SYSTEM_USER = UUID(int=0)

#: How seed/data marks a heading.
_HEADING = "# "


@dataclass(frozen=True)
class Work:
    """A text of `seed/data`; SOURCES.md there says where it is from."""

    slug: str
    kind: str
    title: str

    @property
    def media_id(self) -> UUID:
        return uuid5(_NAMESPACE, self.slug)

    def fragments(self) -> Iterator[tuple[str, str]]:
        """Each section as plain text and as HTML."""
        text = files(__name__).joinpath("data", f"{self.slug}.txt").read_text(encoding="utf-8")
        for blocks in split_sections(text):
            plain = "\n\n".join(block.removeprefix(_HEADING) for block in blocks)
            yield plain, "\n".join(as_html(block) for block in blocks)


WORKS = (
    Work(
        "alices-adventures-in-wonderland",
        "epub",
        "Alice's Adventures in Wonderland, by Lewis Carroll",
    ),
    Work(
        "constitution-of-the-united-states",
        "web_article",
        "Constitution of the United States (1787)",
    ),
)


def split_sections(text: str) -> list[list[str]]:
    """The blocks of each section; a heading opens one, unless only headings stand before it."""
    sections: list[list[str]] = [[]]
    for block in text.strip().split("\n\n"):
        opens = block.startswith(_HEADING) and not all(b.startswith(_HEADING) for b in sections[-1])
        if opens:
            sections.append([])
        sections[-1].append(block)
    return sections


def as_html(block: str) -> str:
    """A heading, a scene break or a paragraph; lines within a paragraph are verse and keep their breaks."""
    if block == "* * *":
        return "<hr>"
    if block.startswith(_HEADING):
        return f"<h2>{escape(block.removeprefix(_HEADING), quote=False)}</h2>"
    return f"<p>{escape(block, quote=False).replace(chr(10), '<br>')}</p>"


def seed(session: Session) -> Iterator[tuple[Work, int]]:
    """Add what is not there yet, without touching what is.

    Yields:
        each work and how many rows of it were added: 0 if it was complete.
    """
    session.execute(insert(User).values(id=SYSTEM_USER).on_conflict_do_nothing())
    for work in WORKS:
        yield work, _add(session, work)


def _add(session: Session, work: Work) -> int:
    media = insert(Media).values(
        id=work.media_id,
        kind=work.kind,
        title=work.title,
        processing_status=ProcessingStatus.ready_for_reading,
        created_by_user_id=SYSTEM_USER,
    )
    rows = [
        {"media_id": work.media_id, "idx": idx, "canonical_text": text, "html_sanitized": html}
        for idx, (text, html) in enumerate(work.fragments())
    ]
    added = session.execute(media.on_conflict_do_nothing().returning(Media.id)).all()
    fragments = insert(Fragment).values(rows).on_conflict_do_nothing().returning(Fragment.id)
    return len(added) + len(session.execute(fragments).all())
