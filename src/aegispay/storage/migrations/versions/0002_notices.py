"""Inbound notices from PSPs, kept before they are worked on.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQLITE = (
    """
    CREATE TABLE notice (
        gateway TEXT NOT NULL,
        notice_id TEXT NOT NULL,
        state TEXT NOT NULL,
        received_at_us INTEGER NOT NULL,
        due_at_us INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (gateway, notice_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX notice_by_due ON notice (due_at_us) WHERE state = 'open'",
    "CREATE INDEX notice_by_age ON notice (received_at_us) WHERE state = 'applied'",
)
POSTGRESQL = (
    """
    CREATE TABLE notice (
        received_at_us bigint NOT NULL,
        due_at_us bigint NOT NULL,
        tries integer NOT NULL,
        gateway text NOT NULL,
        notice_id text NOT NULL,
        state text NOT NULL,
        body text NOT NULL,
        PRIMARY KEY (gateway, notice_id)
    )
    """,
    "CREATE INDEX notice_by_due ON notice (due_at_us) WHERE state = 'open'",
    "CREATE INDEX notice_by_age ON notice (received_at_us) WHERE state = 'applied'",
)


def upgrade() -> None:
    for statement in SQLITE if op.get_context().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)
