"""The matrix as a page in Markdown, and that page read back. It knows cells by their text alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from aegispay.domain.events import OperationKind
from aegispay.testing.ambiguity.psps import PSPS
from aegispay.testing.ambiguity.story import FINAL_STATES
from aegispay.testing.ambiguity.troubles import OPERATIONS, Trouble

Key = tuple[str, OperationKind, Trouble]
"""The PSP's name, the operation and the trouble."""
Matrix = Mapping[Key, str]

COMMAND = "python -m aegispay.testing.ambiguity --write docs/gateways/ambiguity.md"
_ARROW = " → "
_INTRO = """# The ambiguity matrix

What becomes of each operation at each PSP when each fault strikes: what the call came to, which evidence ended the
doubt, and how it ended. **Where a cell says `done`, the bank's books have the effect exactly once; where it says
`not done`, not at all; and our books say the same.**

This page is generated: `{command}` (or `make ambiguity`).
Each cell is a test of its own in `tests/conformance/test_ambiguity_matrix.py`, which plays the cell and compares it with
this page.

## How it was made

Each of the {count} cells is one payment through the real orchestrator, with its default settings and its SQLite store,
over the real adapter. On the other end of the wire is the sandbox's face of that PSP, over a bank that keeps books of its
own. Only the network and the clock are not real: hours pass in milliseconds. The fault strikes once, at the request that
moves the money in a run without faults (or at the last one, where the payer moves the money at the PSP). Faults at the
other requests are the [conformance suite's](../guides/write-a-gateway.md). A second gateway stands by that would take the
payment.

In each cell the test also holds that

- nobody else was asked while the operation was in doubt, and nothing was taken twice;
- whoever was told of a success has one, and whoever was told of a failure was not charged, then or later;
- the caller's own retry under the same key hears how it ended, and sends nothing;
- what cannot be done is refused before anything is sent;
- all of it stays so for 20 minutes more.

**What this is verified against:** the faces, which are ours, and not the PSPs themselves. How the faces were held to the
PSPs' own specifications, fixtures and SDKs stands in each PSP's page, with what only a live account can tell.

## How to read a cell

`in doubt → look-up → not done (within 30 min); told pending`: the call left it in doubt; a look-up showed that it had no
effect, at most 30 minutes after the caller had been told `pending`. Where nothing is told, the caller heard the end
itself, within the 30 s that it waits. Where we die the time counts from the request, and there is nobody to tell.

| word | meaning |
|---|---|
| `done` | the bank has the effect, once |
| `not done` | the bank does not have it: it may be asked for anew |
| `reversed` | found after all when it had been called `not done`, and given back: nobody waits for it any more |
| `refused` | the PSP or its adapter cannot do it: a typed error before anything is sent |
| `not sent` | proof that nothing was executed |
| `in doubt` | it may or may not have been executed; nobody else is asked |
| `pending` | the PSP has accepted it, and says later what became of it |
| `sent again` | sent once more, since the first time was proven not to be executed |
| `other PSP` | failed over to the second gateway |
| `resend` | the same request under the same key, which the PSP replays |
| `look-up` | read at the PSP by our reference; finding nothing counts after its quiet period |
| `cancel` | canceled by our reference after such a look-up, so that what lands later is refused |
| `webhook` | the PSP's signed notice |
| `person` | no evidence in a day: `NEEDS_REVIEW`, with what a person will find at the bank. Never failed by a timer |
"""


def render(matrix: Matrix) -> str:
    """The whole page."""
    parts = [_INTRO.format(command=COMMAND, count=len(matrix)), _states(), _troubles(), _sums(matrix)]
    for psp in PSPS.values():
        rows = [
            [trouble.head, *(matrix[psp.name, kind, trouble] for kind in OPERATIONS)] for trouble in Trouble
        ]
        table = _table(["", *(kind.value for kind in OPERATIONS)], rows)
        parts.append(f"## {psp.title}\n\n{psp.note}\n\n{table}")
    return "\n".join(parts)


def read_page(text: str) -> dict[Key, str]:
    """The cells of a page; those that it does not have are missing."""
    titles = {psp.title: psp.name for psp in PSPS.values()}
    troubles = {trouble.head: trouble for trouble in Trouble}
    found: dict[Key, str] = {}
    name: str | None = None
    for line in text.splitlines():
        if line.startswith("## "):
            name = titles.get(line[3:])
        elif name is not None and line.startswith("| "):
            head, *cells = (one.strip() for one in line.strip().strip("|").split("|"))
            trouble = troubles.get(head)
            if trouble is not None:
                found.update(
                    {(name, kind, trouble): one for kind, one in zip(OPERATIONS, cells, strict=True)}
                )
    return found


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _states() -> str:
    rows = [
        [kind.value, f"`{FINAL_STATES[kind][0].name}`", f"`{FINAL_STATES[kind][1].name}`"]
        for kind in OPERATIONS
    ]
    table = _table(["operation", "`done`", "`not done`"], rows)
    return (
        f"The payment's state in the end, in each cell:\n\n{table}\n"
        "A refund of a part leaves it `PARTIALLY_REFUNDED`; all but Braintree's are such. A confirmation that was not done"
        " may be asked for again until the payer's hour is up. Where a person is asked it is `NEEDS_REVIEW`.\n"
    )


def _troubles() -> str:
    return "## The faults\n\n" + _table(
        ["row", "what happens"], [[trouble.head, trouble.meaning] for trouble in Trouble]
    )


def _sums(matrix: Matrix) -> str:
    """By what the doubts ended, over all cells."""
    words = ("resend", "look-up", "cancel", "webhook", "person")
    ended: Counter[str] = Counter()
    for text in matrix.values():
        steps = text.split("; ")[0].split(" (")[0].split(_ARROW)
        evidence = [step for step in steps if step in words]
        ended[evidence[-1] if evidence else "refused" if steps == ["refused"] else "reply"] += 1
    rows = [[f"`{word}`", str(ended[word])] for word in words]
    rows += [
        ["the PSP's answer, to the first send or one after a proof", str(ended["reply"])],
        ["`refused`", str(ended["refused"])],
    ]
    return "## What ended the doubt, in how many cells\n\n" + _table(["the last evidence", "cells"], rows)
