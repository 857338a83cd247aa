"""Slice 0: users, libraries, memberships, media, fragments.

Revision ID: 0001
Revises:
"""

from alembic import op

from nexus.db.steps import step

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE users (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE libraries (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        owner_user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        name text NOT NULL,
        is_default boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT ck_libraries_name_length CHECK (char_length(name) >= 1 AND char_length(name) <= 100)
    )
    """,
    """
    CREATE UNIQUE INDEX uix_libraries_one_default_per_user ON libraries (owner_user_id) WHERE is_default
    """,
    """
    CREATE TABLE memberships (
        library_id uuid NOT NULL REFERENCES libraries ON DELETE CASCADE,
        user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        role text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (library_id, user_id),
        CONSTRAINT ck_memberships_role CHECK (role IN ('admin', 'member'))
    )
    """,
    """
    CREATE TABLE media (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        kind text NOT NULL,
        title text NOT NULL,
        canonical_source_url text,
        processing_status text NOT NULL DEFAULT 'pending',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT ck_media_kind CHECK (
            kind IN ('web_article', 'epub', 'pdf', 'video', 'podcast_episode')
        ),
        CONSTRAINT ck_media_processing_status CHECK (
            processing_status IN (
                'pending', 'extracting', 'ready_for_reading', 'embedding', 'ready', 'failed'
            )
        )
    )
    """,
    """
    CREATE TABLE fragments (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        media_id uuid NOT NULL REFERENCES media ON DELETE CASCADE,
        idx integer NOT NULL,
        canonical_text text NOT NULL,
        html_sanitized text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT uq_fragments_media_idx UNIQUE (media_id, idx)
    )
    """,
    """
    CREATE TABLE library_media (
        library_id uuid NOT NULL REFERENCES libraries ON DELETE CASCADE,
        media_id uuid NOT NULL REFERENCES media ON DELETE CASCADE,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (library_id, media_id)
    )
    """,
)


def upgrade() -> None:
    with step("create the tables of slice 0"):
        for statement in _TABLES:
            op.execute(statement)


def downgrade() -> None:
    with step("lock the tables of slice 0"):
        op.execute("LOCK TABLE users, libraries, memberships, media, fragments, library_media")
    with step("drop the tables of slice 0"):
        for table in ("library_media", "fragments", "media", "memberships", "libraries", "users"):
            op.drop_table(table)
