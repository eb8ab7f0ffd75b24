"""What happened in a run: a hash over every step, and, where it is wanted, a timeline that a person can read."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

_STEP = Struct("<dIIH")
LINES_MAX = 20_000


class Trace:
    """`keep` keeps the timeline. The hash is the same with it and without."""

    def __init__(self, keep: bool = False):
        self._hash = blake2b(digest_size=16)
        self._update = self._hash.update
        self._pack = _STEP.pack
        self._keep = keep
        self.lines: list[str] = []

    def step(self, now_s: float, ready: int, chosen: int, process: int) -> None:
        """One callback was run: how many were ready, which was chosen, whose it was."""
        self._update(self._pack(now_s, ready, chosen, process))

    def note(self, now_s: float, who: str, text: str) -> None:
        """Something worth a line: a client's call, a gateway's call, a commit, a crash."""
        self._update(f"{now_s!r} {who} {text}".encode())
        if self._keep and len(self.lines) < LINES_MAX:
            self.lines.append(f"{now_s:14.3f}  {who:<10}  {text}")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
