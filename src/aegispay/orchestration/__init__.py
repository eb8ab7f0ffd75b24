"""The process: how a payment goes from a request through gateways to a recorded answer, and what mends it."""
