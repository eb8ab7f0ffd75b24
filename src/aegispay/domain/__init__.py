"""The payment core, pure: values, states, events, and the two functions `decide` and `evolve`.

Nothing in here awaits, reads a clock, draws a random number or opens a socket, and it imports nothing
else of ours.
"""
