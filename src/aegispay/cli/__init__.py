"""The command line. Only `main` stands here; typer, rich and the rest are imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_EXTRA = frozenset({"typer", "rich", "click", "shellingham"})
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status; `argv` is without the program's name."""
    try:
        try:
            from aegispay.cli.app import run
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            print(
                "aegispay: error: the command line needs an extra: pip install 'aegispay[cli]'",
                file=sys.stderr,
            )
            return 2
        return run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("aegispay: interrupted.", file=sys.stderr)
        return _INTERRUPTED
