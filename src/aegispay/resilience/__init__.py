"""Small, own, on the hot path: deadlines and retries with jitter. They affect speed and choice, never a promise."""
