"""Durable storage: one `Store` protocol, SQLite and PostgreSQL behind it, group commit in front of both."""
