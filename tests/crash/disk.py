"""A disk so small that it is full at once when it is to be: a tmpfs with a ballast file on it."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK = b"\0" * (1 << 16)


class MountRefused(Exception):
    """This user may not mount. `unshare --user --map-root-user --mount` gives a shell that may."""


class SmallDisk:
    """`with SmallDisk(folder, 16) as disk:` mounts so many MiB on the folder."""

    def __init__(self, folder: Path, size_mb: int):
        self.folder = folder
        self._size_mb = size_mb
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size_mb}m", "none", str(self.folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise MountRefused(done.stderr.decode(errors="replace").strip())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Lazily, because a worker that was just killed may still stand on it.
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)

    def fill(self) -> None:
        """Takes every byte that is left."""
        with self._ballast.open("ab", buffering=0) as ballast:
            chunk = _CHUNK
            while chunk:
                try:
                    ballast.write(chunk)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    chunk = chunk[: len(chunk) // 2]

    def free(self) -> None:
        """Gives them back."""
        self._ballast.unlink(missing_ok=True)

    @property
    def left(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize
