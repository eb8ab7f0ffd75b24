"""All SQL of the PostgreSQL store, in named blocks. For PostgreSQL 15 and later, under READ COMMITTED.

`WRITE` applies a whole batch in one statement: one round trip and one implicit transaction. Why it is right:

- Everything is locked before anything is written, and always in the same order: payments by id, then leases by
  operation id, then claims by digest. Each step sorts what the step before gave, and a sort takes in all of its input
  before it gives anything. So two processes never wait for each other in a circle.
- A row that changed after the statement's snapshot was taken is checked again, at its newest version, when it is
  locked. Only a row that still has the expected version passes; the snapshot shows that same version, so the UPDATE
  meets the row that was locked.
- A claim that another transaction is inserting is waited for. If that commits, ours is not inserted and our write does
  not pass; if it is rolled back, ours is. Only writes whose version and lease hold ask for their claims, so a write
  that does not pass leaves no claim behind.
- A new payment that somebody else inserts at the same moment breaks the primary key: the batch is refused whole, and its
  members are written one by one.
"""

from __future__ import annotations

# `passed` is one array of booleans, computed once; each row that is written carries its write's number into it.
# Two odd forms keep the planner from plans that are quadratic, or read the whole table: a scalar subquery in the place of
# NOT EXISTS, and IS TRUE behind IN.
WRITE = """
WITH w AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::bigint[], $5::uuid[])
        WITH ORDINALITY AS w (payment_id, expected, guard_id, fence, digest, n)
),
locked AS MATERIALIZED (
    SELECT w.n FROM w JOIN payment p ON p.payment_id = w.payment_id AND p.version = w.expected
    WHERE w.expected > 0
    ORDER BY w.payment_id
    FOR NO KEY UPDATE OF p
),
versioned AS MATERIALIZED (
    SELECT w.n, w.payment_id, w.guard_id, w.fence, w.digest FROM w
    WHERE CASE WHEN w.expected > 0 THEN w.n IN (SELECT n FROM locked)
          ELSE (SELECT p.version FROM payment p WHERE p.payment_id = w.payment_id) IS NULL END
),
held AS MATERIALIZED (
    SELECT v.n FROM versioned v
    JOIN in_flight f ON f.operation_id = v.guard_id AND f.fence = v.fence AND f.payment_id = v.payment_id
    ORDER BY v.guard_id
    FOR UPDATE OF f
),
leased AS MATERIALIZED (
    SELECT v.n, v.digest FROM versioned v WHERE v.guard_id IS NULL OR v.n IN (SELECT n FROM held)
),
claimed AS (
    INSERT INTO claim (digest, merchant_id, scope, payment_id, operation_id, request_hash, created_at_us)
    SELECT c.digest, c.merchant_id, c.scope, c.payment_id, c.operation_id, c.request_hash, c.created_at_us
    FROM unnest($6::bigint[], $7::uuid[], $8::text[], $9::text[], $10::uuid[], $11::uuid[], $12::uuid[], $13::bigint[])
        AS c (n, digest, merchant_id, scope, payment_id, operation_id, request_hash, created_at_us)
    WHERE (c.n IN (SELECT n FROM leased)) IS TRUE
    ORDER BY c.digest
    ON CONFLICT DO NOTHING
    RETURNING digest
),
passed AS MATERIALIZED (
    SELECT array_agg(
        w.n IN (SELECT n FROM leased) AND (w.digest IS NULL OR w.digest IN (SELECT digest FROM claimed)) ORDER BY w.n
    ) AS list FROM w
),
payments_made AS (
    INSERT INTO payment (payment_id, version, state, gateway, updated_at_us, body,
                         merchant_id, amount_minor, currency, customer_id, created_at_us)
    SELECT p.payment_id, p.version, p.state, p.gateway, p.updated_at_us, p.body,
           p.merchant_id, p.amount_minor, p.currency, p.customer_id, p.created_at_us
    FROM unnest($14::int[], $15::uuid[], $16::int[], $17::text[], $18::text[], $19::bigint[], $20::text[],
                $21::text[], $22::bigint[], $23::text[], $24::text[], $25::bigint[])
        AS p (n, payment_id, version, state, gateway, updated_at_us, body,
              merchant_id, amount_minor, currency, customer_id, created_at_us)
    WHERE (SELECT list FROM passed)[p.n]
),
payments_changed AS (
    UPDATE payment SET version = p.version, state = p.state, gateway = p.gateway,
                       updated_at_us = p.updated_at_us, body = p.body
    FROM unnest($26::int[], $27::uuid[], $28::int[], $29::text[], $30::text[], $31::bigint[], $32::text[])
        AS p (n, payment_id, version, state, gateway, updated_at_us, body)
    WHERE payment.payment_id = p.payment_id AND (SELECT list FROM passed)[p.n]
),
events_added AS (
    INSERT INTO event (payment_id, version, event_id, type, schema_version, at_us, correlation_id, causation_id, data)
    SELECT e.payment_id, e.version, e.event_id, e.type, e.schema_version, e.at_us, e.correlation_id, e.causation_id, e.data
    FROM unnest($33::int[], $34::uuid[], $35::int[], $36::uuid[], $37::text[], $38::int[], $39::bigint[],
                $40::text[], $41::text[], $42::text[])
        AS e (n, payment_id, version, event_id, type, schema_version, at_us, correlation_id, causation_id, data)
    WHERE (SELECT list FROM passed)[e.n]
),
released AS (
    DELETE FROM in_flight USING unnest($43::int[], $44::uuid[]) AS r (n, operation_id)
    WHERE in_flight.operation_id = r.operation_id AND (SELECT list FROM passed)[r.n]
),
kept AS (
    UPDATE in_flight SET payment_id = k.payment_id, gateway = k.gateway, purpose = k.purpose, due_at_us = k.due_at_us,
                         owner = k.owner, fence = k.fence, tries = k.tries, sent_at_us = k.sent_at_us
    FROM unnest($45::int[], $46::uuid[], $47::uuid[], $48::text[], $49::text[], $50::bigint[], $51::text[],
                $52::bigint[], $53::int[], $54::bigint[])
        AS k (n, operation_id, payment_id, gateway, purpose, due_at_us, owner, fence, tries, sent_at_us)
    WHERE in_flight.operation_id = k.operation_id AND (SELECT list FROM passed)[k.n]
),
opened AS (
    INSERT INTO in_flight (operation_id, payment_id, gateway, purpose, due_at_us, owner, fence, tries, sent_at_us)
    SELECT o.operation_id, o.payment_id, o.gateway, o.purpose, o.due_at_us, o.owner, o.fence, o.tries, o.sent_at_us
    FROM unnest($55::int[], $56::uuid[], $57::uuid[], $58::text[], $59::text[], $60::bigint[], $61::text[],
                $62::bigint[], $63::int[], $64::bigint[])
        AS o (n, operation_id, payment_id, gateway, purpose, due_at_us, owner, fence, tries, sent_at_us)
    WHERE (SELECT list FROM passed)[o.n]
)
SELECT w.n FROM w WHERE NOT (SELECT list FROM passed)[w.n]
"""

# The writer's plan is made once and must stay right while the tables grow from nothing to millions of rows: every join
# in it goes from a small batch into an index.
WRITER_SETTINGS = """
SET plan_cache_mode = force_generic_plan; SET jit = off;
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
"""

# --- why a write did not pass ------------------------------------------------------------------------------
CLAIM_COLUMNS = "digest, merchant_id, scope, payment_id, operation_id, request_hash"
FIND_CLAIM = f"SELECT {CLAIM_COLUMNS} FROM claim WHERE digest = $1"  # noqa: S608
FIND_FENCE = "SELECT fence FROM in_flight WHERE operation_id = $1 AND payment_id = $2"
FIND_VERSION = "SELECT version FROM payment WHERE payment_id = $1"

# --- reading -----------------------------------------------------------------------------------------------
IN_FLIGHT_COLUMNS = "operation_id, payment_id, gateway, purpose, due_at_us, owner, fence, tries, sent_at_us"
LOAD = "SELECT body FROM payment WHERE payment_id = $1"
LOAD_EVENTS = """
SELECT version, event_id, schema_version, at_us, correlation_id, causation_id, data
FROM event WHERE payment_id = $1 AND version <= $2 ORDER BY version
"""
FIND_IN_FLIGHT = f"SELECT {IN_FLIGHT_COLUMNS} FROM in_flight WHERE operation_id = $1"  # noqa: S608
# The expressions and conditions are those of the indexes in migration 0003.
FIND_BY_OPERATION = """
SELECT payment_id FROM event
WHERE left(split_part(split_part(data, '"operation_id":"', 2), '"', 1), 200) COLLATE "C" = $1
AND type = 'operation_started' LIMIT 1
"""
FIND_BY_REFERENCE = """
SELECT DISTINCT payment_id FROM event
WHERE left(split_part(split_part(data, '"reference":"', 2), '"', 1), 200) COLLATE "C" = left($1, 200)
AND type IN ('operation_approved', 'operation_requires_action', 'operation_pending', 'operation_declined',
             'late_success_found')
ORDER BY payment_id LIMIT $2
"""
COUNT_IN_FLIGHT = "SELECT count(*) FROM in_flight WHERE purpose = 'call'"
LIST = """
SELECT body FROM payment
WHERE merchant_id = $1 AND payment_id < $2 AND (cardinality($3::text[]) = 0 OR state = ANY($3::text[]))
ORDER BY payment_id DESC LIMIT $4
"""
LIST_FROM_NEWEST = """
SELECT body FROM payment
WHERE merchant_id = $1 AND (cardinality($2::text[]) = 0 OR state = ANY($2::text[]))
ORDER BY payment_id DESC LIMIT $3
"""

# --- leases ------------------------------------------------------------------------------------------------
# Rows that another worker is taking over, or that a write holds, are passed by rather than waited for.
LEASE_DUE = """
WITH due AS MATERIALIZED (
    SELECT operation_id, due_at_us AS was FROM in_flight WHERE due_at_us <= $1
    ORDER BY due_at_us, operation_id LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE in_flight f SET owner = $2, due_at_us = $3, fence = f.fence + 1, tries = f.tries + 1,
    sent_at_us = CASE WHEN f.owner <> '' THEN greatest(f.sent_at_us, f.due_at_us) ELSE f.sent_at_us END
FROM due WHERE f.operation_id = due.operation_id
RETURNING f.operation_id, f.payment_id, f.gateway, f.purpose, f.due_at_us, f.owner, f.fence, f.tries, f.sent_at_us,
          due.was
"""
RENEW = "UPDATE in_flight SET due_at_us = $3 WHERE operation_id = $1 AND fence = $2 RETURNING true"

# --- inbound notices ---------------------------------------------------------------------------------------
NOTICE_COLUMNS = "gateway, notice_id, body, received_at_us, due_at_us, tries, state"
KEEP_NOTICES = f"""
INSERT INTO notice ({NOTICE_COLUMNS})
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::text[])
ON CONFLICT DO NOTHING RETURNING true
"""  # noqa: S608
LEASE_NOTICES = """
WITH due AS MATERIALIZED (
    SELECT gateway, notice_id, due_at_us AS was FROM notice WHERE state = 'open' AND due_at_us <= $1
    ORDER BY due_at_us, notice_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE notice n SET due_at_us = $2, tries = n.tries + 1
FROM due WHERE n.gateway = due.gateway AND n.notice_id = due.notice_id
RETURNING n.gateway, n.notice_id, n.body, n.received_at_us, n.due_at_us, n.tries, n.state, due.was
"""
SETTLE_NOTICE = "UPDATE notice SET state = $1, due_at_us = $2 WHERE gateway = $3 AND notice_id = $4"
LIST_NOTICES = f"""
SELECT {NOTICE_COLUMNS} FROM notice WHERE state = $1
ORDER BY received_at_us DESC, gateway COLLATE "C", notice_id COLLATE "C" LIMIT $2
"""  # noqa: S608
PRUNE_NOTICES = """
DELETE FROM notice WHERE (gateway, notice_id) IN (
    SELECT gateway, notice_id FROM notice WHERE state = 'applied' AND received_at_us < $1 LIMIT $2
) RETURNING true
"""

# --- the server --------------------------------------------------------------------------------------------
DURABILITY = """
SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') ORDER BY name
"""
"""Every one of them must not be off, or a commit can be lost in a power cut."""
KNOWS_VERSION = "SELECT to_regclass($1) IS NOT NULL"
"""Whether the version table is there."""
