"""The gateway port: what an adapter to one PSP account must do, and the adapters."""
