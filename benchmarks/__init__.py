"""Benchmarks: each prints a table and writes JSON. Run them as `python -m benchmarks.NAME`."""
