"""A bank and PSPs that keep their own books, for demos, tests and chaos. Not for production, and on loopback only."""
