"""Servers of our own that the tests run against on loopback."""
