"""Finding a payment by one of its operations, or by a PSP's reference.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What a notice names stands in the events already, so both indexes are laid over the event table. They belong to the
# same commit as the event without a statement, a parameter or a row more in the hot path; they can't differ from the
# events; and payments from before are in them as soon as they are made. A table of its own would need all of that,
# and each of its rows would cost a heap page and an index page where these cost the index page alone.
#
# Operation ids rise with time, so new entries go to the same few pages. References are the PSPs', and random; the
# gateway is not in the event, so whoever asks looks whether the payment was there at all.
#
# The queries must have the expressions and conditions that stand here. In PostgreSQL they search for text: a cast to json
# refuses what JSON may hold, such as \\u0000 in a decline's message, and the outcome could not be written; a regular
# expression costs 5 to 16 us where this costs 0.3. A quote inside a JSON string is escaped, so what looks like a name
# and a value is one. An index entry has a longest length there, and what exceeds it could not be written either, so
# 200 characters count: no PSP's reference is half as long.
OPERATION_TYPES = "type = 'operation_started'"
REFERENCE_TYPES = (
    "type IN ('operation_approved', 'operation_requires_action', 'operation_pending', 'operation_declined',"
    " 'late_success_found')"
)
SQLITE = (
    f"CREATE INDEX event_by_operation ON event (json_extract(data, '$.operation_id')) WHERE {OPERATION_TYPES}",
    f"CREATE INDEX event_by_reference ON event (json_extract(data, '$.reference')) WHERE {REFERENCE_TYPES}",
)
POSTGRESQL = (
    f"""
    CREATE INDEX event_by_operation ON event
        (left(split_part(split_part(data, '"operation_id":"', 2), '"', 1), 200) COLLATE "C") WHERE {OPERATION_TYPES}
    """,
    f"""
    CREATE INDEX event_by_reference ON event
        (left(split_part(split_part(data, '"reference":"', 2), '"', 1), 200) COLLATE "C") WHERE {REFERENCE_TYPES}
    """,
)


def upgrade() -> None:
    for statement in SQLITE if op.get_context().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)
