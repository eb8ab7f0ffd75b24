"""Mutation testing: the code is changed in one small place, and some test must fail. `make mutation` runs it."""
