"""The schema's history, as alembic revisions of raw SQL per database. Nothing in here is imported by hand."""
