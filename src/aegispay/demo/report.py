"""The result of a run: the numbers that must be zero, the scenarios, the faults that struck, and both books side by side."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from aegispay.demo.ledger import PspRow
from aegispay.demo.stage import Row
from aegispay.sandbox.audit import AuditReport, CurrencyTotals, Problem


class Report(msgspec.Struct, kw_only=True):
    """Numbers of payments, but for the totals (minor units)."""

    seed: int
    payments: int
    """All that were made, those of the scenarios among them."""
    mixed: int
    charged_twice: int
    charged_unrecorded: int
    recorded_uncharged: int
    in_doubt_left: int
    refunded_twice: int
    amounts_differ: int
    held_unrecorded: int
    reversed_duplicates: int
    needs_review: int
    scenarios: list[Row]
    faults: dict[str, dict[str, int]]
    """Kinds of faults that struck, per PSP."""
    psps: dict[str, PspRow]
    totals: dict[str, CurrencyTotals]
    problems: list[Problem]
    troubles: list[str]
    """What else went wrong: an error where an answer was due."""
    elapsed_s: float
    audit_ok: bool

    @classmethod
    def of(
        cls,
        *,
        seed: int,
        mixed: int,
        audit: AuditReport,
        needs_review: int,
        scenarios: list[Row],
        faults: dict[str, dict[str, int]],
        psps: dict[str, PspRow],
        troubles: list[str],
        elapsed_s: float,
    ) -> Report:
        return cls(
            seed=seed,
            payments=audit.payments,
            mixed=mixed,
            charged_twice=audit.charged_twice,
            charged_unrecorded=audit.charged_unrecorded,
            recorded_uncharged=audit.recorded_uncharged,
            in_doubt_left=audit.in_doubt_left,
            refunded_twice=audit.refunded_twice,
            amounts_differ=audit.amounts_differ,
            held_unrecorded=audit.held_unrecorded,
            reversed_duplicates=audit.reversed_duplicates,
            needs_review=needs_review,
            scenarios=scenarios,
            faults=faults,
            psps=psps,
            totals=audit.totals,
            problems=list(audit.problems),
            troubles=troubles,
            elapsed_s=round(elapsed_s, 1),
            audit_ok=audit.ok,
        )

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken() and self.audit_ok

    @property
    def faults_struck(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.faults.values())

    def faults_by_kind(self) -> dict[str, int]:
        """The faults that struck, over all PSPs."""
        return dict(sorted(sum((Counter(kinds) for kinds in self.faults.values()), Counter()).items()))

    @property
    def webhooks_taken(self) -> int:
        return sum(row.webhooks.notices for row in self.psps.values())

    def to_json(self) -> bytes:
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["ok"] = self.ok
        for row, shown in zip(self.scenarios, found["scenarios"], strict=True):
            shown["ok"] = row.ok
        for currency, sums in self.totals.items():
            found["totals"][currency]["equal"] = sums.equal
        return msgspec.json.encode(found)

    def broken(self) -> list[str]:
        """One line for each thing that is wrong, the first ones where there are many."""
        lines = [f"{row.name}: {problem}" for row in self.scenarios for problem in row.problems]
        lines += [f"{problem.kind} {problem.payment_id}: {problem.detail}" for problem in self.problems]
        lines += [f"{code}: {sums}" for code, sums in self.totals.items() if not sums.equal]
        if self.in_doubt_left:
            lines.append(f"{self.in_doubt_left} payments are still in doubt")
        for name, psp in self.psps.items():
            if psp.webhooks.forged_taken:
                lines.append(f"{psp.webhooks.forged_taken} forged webhooks of {name} were taken")
            if psp.webhooks.given_up:
                lines.append(f"{psp.webhooks.given_up} webhooks of {name} were never taken")
        return lines + self.troubles

    @property
    def command(self) -> str:
        """What to type to see the same payments and the same faults."""
        return f"aegispay demo --seed {self.seed} --payments {self.mixed}"

    def verdict(self) -> str:
        """One line that says whether any promise broke."""
        if self.ok:
            return (
                f"Every promise was kept: {self.payments:,} payments, {self.faults_struck:,} faults,"
                f" {self.webhooks_taken:,} webhooks, nobody charged twice, nothing lost, no doubt left,"
                f" in {self.elapsed_s:.0f} s. Seed {self.seed}."
            )
        return (
            f"A PROMISE WAS BROKEN: {self.charged_twice} charged twice, {self.charged_unrecorded} charged and not"
            f" recorded, {self.recorded_uncharged} recorded and not charged, {self.in_doubt_left} left in doubt,"
            f" {sum(not row.ok for row in self.scenarios)} scenarios failed. Seed {self.seed}."
        )
