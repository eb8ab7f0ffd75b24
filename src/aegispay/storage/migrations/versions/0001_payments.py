"""Payments, their events, idempotency claims and the operations in flight.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Rows of one payment stand together: payment ids rise with time, so that new rows land on the same few pages however
# many payments there are. Only the claim's digest is random: in SQLite it has an index of its own, small enough to stay in
# the cache, and the claims themselves stand in the order in which they came.
SQLITE = (
    """
    CREATE TABLE payment (
        payment_id BLOB NOT NULL PRIMARY KEY,
        merchant_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        amount_minor INTEGER NOT NULL,
        currency TEXT NOT NULL,
        customer_id TEXT,
        gateway TEXT,
        created_at_us INTEGER NOT NULL,
        updated_at_us INTEGER NOT NULL,
        body TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX payment_by_merchant ON payment (merchant_id, payment_id)",
    """
    CREATE TABLE event (
        payment_id BLOB NOT NULL,
        version INTEGER NOT NULL,
        event_id BLOB NOT NULL,
        type TEXT NOT NULL,
        schema_version INTEGER NOT NULL,
        at_us INTEGER NOT NULL,
        correlation_id TEXT,
        causation_id TEXT,
        data TEXT NOT NULL,
        PRIMARY KEY (payment_id, version)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER event_is_not_updated BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
    """,
    """
    CREATE TRIGGER event_is_not_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
    """,
    """
    CREATE TABLE claim (
        digest BLOB NOT NULL,
        merchant_id TEXT NOT NULL,
        scope TEXT NOT NULL,
        payment_id BLOB NOT NULL,
        operation_id BLOB NOT NULL,
        request_hash BLOB NOT NULL,
        created_at_us INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX claim_by_digest ON claim (digest)",
    """
    CREATE TABLE in_flight (
        operation_id BLOB NOT NULL PRIMARY KEY,
        payment_id BLOB NOT NULL,
        gateway TEXT NOT NULL,
        purpose TEXT NOT NULL,
        due_at_us INTEGER NOT NULL,
        owner TEXT NOT NULL,
        fence INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        sent_at_us INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX in_flight_by_due ON in_flight (due_at_us)",
)

# A payment is updated soon after it was inserted: half of each page is kept free, so that the new row lands beside the
# old one and no index changes. In-flight rows come and go: they are vacuumed by their number, not by a share of the table.
POSTGRESQL = (
    """
    CREATE TABLE payment (
        payment_id uuid NOT NULL PRIMARY KEY,
        created_at_us bigint NOT NULL,
        updated_at_us bigint NOT NULL,
        amount_minor bigint NOT NULL,
        version integer NOT NULL,
        merchant_id text NOT NULL,
        state text NOT NULL,
        currency text NOT NULL,
        customer_id text,
        gateway text,
        body text NOT NULL
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX payment_by_merchant ON payment (merchant_id, payment_id)",
    """
    CREATE TABLE event (
        payment_id uuid NOT NULL,
        event_id uuid NOT NULL,
        at_us bigint NOT NULL,
        version integer NOT NULL,
        schema_version integer NOT NULL,
        type text NOT NULL,
        correlation_id text,
        causation_id text,
        data text NOT NULL,
        PRIMARY KEY (payment_id, version)
    )
    """,
    """
    CREATE FUNCTION aegispay_events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''events are append-only''; END'
    """,
    """
    CREATE TRIGGER event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION aegispay_events_are_append_only()
    """,
    """
    CREATE TABLE claim (
        digest uuid NOT NULL PRIMARY KEY,
        payment_id uuid NOT NULL,
        operation_id uuid NOT NULL,
        request_hash uuid NOT NULL,
        created_at_us bigint NOT NULL,
        merchant_id text NOT NULL,
        scope text NOT NULL
    )
    """,
    """
    CREATE TABLE in_flight (
        operation_id uuid NOT NULL PRIMARY KEY,
        payment_id uuid NOT NULL,
        due_at_us bigint NOT NULL,
        sent_at_us bigint NOT NULL,
        fence bigint NOT NULL,
        tries integer NOT NULL,
        gateway text NOT NULL,
        purpose text NOT NULL,
        owner text NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000)
    """,
    "CREATE INDEX in_flight_by_due ON in_flight (due_at_us)",
)


def upgrade() -> None:
    for statement in SQLITE if op.get_context().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)
