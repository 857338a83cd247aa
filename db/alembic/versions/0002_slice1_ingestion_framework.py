"""Slice 1: processing life cycle of media, files, idempotency.

The specification's steps for `processing_status` (add `_v2`, migrate, drop, rename) without its UPDATE: the
new column is added as GENERATED STORED from the old one and then loses its expression. One rewrite of the
table instead of a dead copy of every row.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from nexus.db.steps import step

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PROCESSING_STATUS = ("pending", "extracting", "ready_for_reading", "embedding", "ready", "failed")
FAILURE_STAGE = ("upload", "extract", "transcribe", "embed", "other")

#: Owner of the media that existed before media had one.
SYSTEM_USER = "00000000-0000-0000-0000-000000000000"
#: Marks the row as ours: the downgrade deletes the system user only if this upgrade made it.
SYSTEM_USER_CREATED_AT = "1970-01-01T00:00:00Z"


def _cases(when: str, then: str) -> str:
    """Text to enum or back as an immutable expression: GENERATED asks for one, and a cast is none."""
    branches = (f"WHEN {when.format(label)} THEN {then.format(label)}" for label in PROCESSING_STATUS)
    return f"CASE processing_status {' '.join(branches)} END"


TEXT_TO_ENUM = _cases("'{}'", "'{}'::processing_status")
ENUM_TO_TEXT = _cases("'{}'::processing_status", "'{}'")


def _create_enum(name: str, labels: tuple[str, ...]) -> None:
    quoted = ", ".join(f"'{label}'" for label in labels)
    op.execute(f"""
        DO $$
        BEGIN
            CREATE TYPE {name} AS ENUM ({quoted});
        EXCEPTION
            WHEN duplicate_object THEN NULL;
        END $$;
    """)
    _require_labels(name, list(labels))


def _require_labels(name: str, wanted: list[str]) -> None:
    """The guard above also hides an existing type of that name with other labels, so look at them."""
    query = sa.text("""
        SELECT coalesce(array_agg(enumlabel::text ORDER BY enumsortorder), '{}')
        FROM pg_enum WHERE enumtypid = to_regtype(:name)
    """)
    found = op.get_bind().execute(query, {"name": name}).scalar_one()
    if found != wanted:
        raise RuntimeError(
            f"a type {name} exists already with other labels: found {found}, wanted {wanted}. "
            f"Rename or drop it (DROP TYPE {name}), then migrate again"
        )


def upgrade() -> None:
    # First of all, so that an attempt that has to wait has nothing to lose. In the order in which the API's
    # writes come to these tables.
    with step("lock users and media"):
        op.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
        op.execute("LOCK TABLE media IN ACCESS EXCLUSIVE MODE")
    with step("create the enum types"):
        _create_enum("processing_status", PROCESSING_STATUS)
        _create_enum("failure_stage", FAILURE_STAGE)
    with step("insert the system user"):
        op.execute(f"""
            INSERT INTO users (id, created_at) VALUES ('{SYSTEM_USER}', '{SYSTEM_USER_CREATED_AT}')
            ON CONFLICT (id) DO NOTHING
        """)
    _rewrite_media()
    _give_media_an_owner()
    with step("create media_file"):
        op.execute("""
            CREATE TABLE media_file (
                media_id uuid PRIMARY KEY REFERENCES media ON DELETE CASCADE,
                storage_path text NOT NULL,
                content_type text NOT NULL,
                size_bytes bigint NOT NULL
            )
        """)
    _create_unique_indexes()


def _rewrite_media() -> None:
    # What is in this ALTER is checked while the rows are written; a constraint of its own would be one more
    # scan. processing_attempts costs no space: it fills up the eight bytes in which the enum stands.
    with step("write media anew with its new columns", rewrites="media"):
        op.execute(f"""
            ALTER TABLE media
                ADD COLUMN processing_status_v2 processing_status NOT NULL
                    GENERATED ALWAYS AS ({TEXT_TO_ENUM}) STORED,
                ADD COLUMN failure_stage failure_stage,
                ADD COLUMN last_error_code text,
                ADD COLUMN last_error_message text,
                ADD COLUMN processing_attempts integer NOT NULL DEFAULT 0,
                ADD COLUMN processing_started_at timestamptz,
                ADD COLUMN processing_completed_at timestamptz,
                ADD COLUMN failed_at timestamptz,
                ADD COLUMN requested_url text,
                ADD COLUMN canonical_url text,
                ADD COLUMN file_sha256 text,
                ADD COLUMN external_playback_url text,
                ADD COLUMN provider text,
                ADD COLUMN provider_id text,
                ADD CONSTRAINT ck_media_requested_url_length
                    CHECK (requested_url IS NULL OR char_length(requested_url) <= 2048),
                ADD CONSTRAINT ck_media_canonical_url_length
                    CHECK (canonical_url IS NULL OR char_length(canonical_url) <= 2048)
        """)
    with step("put the enum in place of the text"):
        op.execute("""
            ALTER TABLE media
                ALTER COLUMN processing_status_v2 DROP EXPRESSION,
                DROP CONSTRAINT ck_media_processing_status
        """)
        op.drop_column("media", "processing_status")
        op.alter_column("media", "processing_status_v2", new_column_name="processing_status")
        op.alter_column("media", "processing_status", server_default="pending")


def _give_media_an_owner() -> None:
    # The default is the backfill, and touches no row. Left in place, it would hand every later row without a
    # creator to the system user in silence.
    with step("give all media to the system user"):
        op.execute(f"ALTER TABLE media ADD COLUMN created_by_user_id uuid NOT NULL DEFAULT '{SYSTEM_USER}'")
        op.execute("""
            ALTER TABLE media
                ALTER COLUMN created_by_user_id DROP DEFAULT,
                ADD CONSTRAINT fk_media_created_by_user_id FOREIGN KEY (created_by_user_id) REFERENCES users
        """)


def _create_unique_indexes() -> None:
    with step("create the unique indexes of media"):
        op.create_index(
            "uix_media_canonical_url",
            "media",
            ["kind", "canonical_url"],
            unique=True,
            postgresql_where=sa.text("canonical_url IS NOT NULL"),
        )
        op.create_index(
            "uix_media_file_sha256",
            "media",
            ["created_by_user_id", "kind", "file_sha256"],
            unique=True,
            postgresql_where=sa.text("file_sha256 IS NOT NULL AND kind IN ('pdf', 'epub')"),
        )


def downgrade() -> None:
    with step("lock users, media and media_file"):
        op.execute("LOCK TABLE users, media, media_file IN ACCESS EXCLUSIVE MODE")
    with step("drop the unique indexes of media"):
        op.drop_index("uix_media_file_sha256", table_name="media")
        op.drop_index("uix_media_canonical_url", table_name="media")
    with step("drop media_file"):
        op.drop_table("media_file")
    _drop_media_columns()
    _processing_status_to_text()
    with step("drop the enum types"):
        op.execute("DROP TYPE IF EXISTS processing_status")
        op.execute("DROP TYPE IF EXISTS failure_stage")
    # Foreign keys to users cascade: a system user that somebody has put to use stays, with what is theirs.
    with step("delete the system user if it is ours"):
        op.execute(f"""
            DELETE FROM users
            WHERE id = '{SYSTEM_USER}' AND created_at = '{SYSTEM_USER_CREATED_AT}'
              AND NOT EXISTS (SELECT FROM libraries WHERE owner_user_id = users.id)
              AND NOT EXISTS (SELECT FROM memberships WHERE user_id = users.id)
        """)


def _drop_media_columns() -> None:
    with step("drop the new columns of media"):
        op.execute("""
            ALTER TABLE media
                DROP COLUMN failure_stage,
                DROP COLUMN last_error_code,
                DROP COLUMN last_error_message,
                DROP COLUMN processing_attempts,
                DROP COLUMN processing_started_at,
                DROP COLUMN processing_completed_at,
                DROP COLUMN failed_at,
                DROP COLUMN requested_url,
                DROP COLUMN canonical_url,
                DROP COLUMN file_sha256,
                DROP COLUMN external_playback_url,
                DROP COLUMN provider,
                DROP COLUMN provider_id,
                DROP COLUMN created_by_user_id
        """)


def _processing_status_to_text() -> None:
    """Rebuilds the column in its old place: created_at and updated_at, made anew, follow it."""
    with step("write media anew with the status as text", rewrites="media"):
        op.execute(f"""
            ALTER TABLE media
                ADD COLUMN processing_status_v1 text GENERATED ALWAYS AS ({ENUM_TO_TEXT}) STORED,
                ADD COLUMN created_at_v1 timestamptz GENERATED ALWAYS AS (created_at) STORED,
                ADD COLUMN updated_at_v1 timestamptz GENERATED ALWAYS AS (updated_at) STORED
        """)
    with step("put the text in place of the enum"):
        op.execute("""
            ALTER TABLE media
                ALTER COLUMN processing_status_v1 DROP EXPRESSION,
                ALTER COLUMN created_at_v1 DROP EXPRESSION,
                ALTER COLUMN updated_at_v1 DROP EXPRESSION
        """)
        for column in ("processing_status", "created_at", "updated_at"):
            op.drop_column("media", column)
            op.alter_column("media", f"{column}_v1", new_column_name=column)
    labels = ", ".join(f"'{label}'" for label in PROCESSING_STATUS)
    with step("constrain the columns of media"):
        op.execute(f"""
            ALTER TABLE media
                ALTER COLUMN processing_status SET DEFAULT 'pending',
                ALTER COLUMN processing_status SET NOT NULL,
                ALTER COLUMN created_at SET DEFAULT now(),
                ALTER COLUMN created_at SET NOT NULL,
                ALTER COLUMN updated_at SET DEFAULT now(),
                ALTER COLUMN updated_at SET NOT NULL,
                ADD CONSTRAINT ck_media_processing_status CHECK (processing_status IN ({labels}))
        """)
