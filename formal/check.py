"""Checks the model of a payment: as it is, it must hold; without any one of its rules, it must break.

`python formal/check.py` prints a table and exits with 1 where a line of it is not as it should be, with 2 where `spin` or
`gcc` is missing. Every search is exhaustive, or ends with a counterexample: no hashing, no sampling.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MODEL = Path(__file__).with_name("payment.pml")
MEMORY_MAX_MB = 6_000
SEARCH_MAX_S = 3_600
DEPTH_MAX = 2_000_000


class Rule(NamedTuple):
    """A rule of the model, by the macro that takes it out, and the code that it stands for."""

    macro: str
    rule: str
    code: str


RULES = (
    Rule("NO_CLAIM", "one payment per idempotency key", "orchestrator.Orchestrator._create, Claim"),
    Rule("NO_INTENT", "the intent is committed before the call", "orchestrator.Orchestrator._create"),
    Rule(
        "NO_FENCE", "a write under an old fence is refused", "recorder.Recorder.record, sqlite_writer.refusal"
    ),
    Rule(
        "LEASE_IGNORED", "nothing is sent after the lease has run out", "calls.Calls.send, Leases.covers_call"
    ),
    Rule(
        "FAILOVER_IN_DOUBT", "the next gateway only on evidence", "decide._start_attempt, record.may_try_next"
    ),
    Rule("NO_QUIET", "absence is believed after the quiet period only", "evidence.EvidenceSearch.look"),
    Rule("QUIET_FROM_RECORD", "it counts from a dead owner's lease end", "sqlite_writer._last_send_us"),
    Rule("KEY_CHANGES", "a resend has the key of the first send", "decide.gateway_key, calls.Calls.call_for"),
    Rule("KEY_EXPIRY_IGNORED", "no resend after the key's life", "evidence.EvidenceSearch._may_resend"),
    Rule(
        "RESEND_WITHOUT_KEYS",
        "no resend where the gateway does not replay",
        "evidence.EvidenceSearch._may_resend",
    ),
    Rule("NOT_SENT_RESEND_IS_EVIDENCE", "an unsent resend proves nothing", "known.is_evidence"),
    Rule("CRASH_MEANS_NOT_SENT", "a dead owner leaves doubt", "open_calls.OpenCalls.resolve"),
    Rule("FAILED_BY_TIMER", "no timer ends a doubt as failed", "open_calls.OpenCalls.resolve"),
    Rule("NO_TAKEOVER", "what nobody finishes is taken over", "recovery.RecoveryWorker, lease_due"),
)
BREAKS_LIVENESS = {"NO_TAKEOVER"}

REACHED = (
    "the second gateway takes the money after a failover",
    "recovery learns of a success by a resend",
    "recovery learns of a success by a look-up",
    "a believed absence is followed by a failover",
    "a stale worker is refused",
    "a person is asked",
    "a request takes effect after its sender has died",
)
"""What the model as it is must be able to do, by the number that the model gives it: a model that cannot proves nothing."""


class Search(NamedTuple):
    """What one search came to."""

    complete: bool
    states: int
    depth: int
    error: str | None
    took_s: float


class CheckerFailed(Exception):
    """The model checker itself did not do its work."""


def run(command: list[str], folder: Path) -> str:
    """The output of a command that must succeed."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SEARCH_MAX_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckerFailed(f"{command[0]} took more than {SEARCH_MAX_S} s.") from None
    if done.returncode:
        raise CheckerFailed(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-800:]}")
    return done.stdout


def search(macros: list[str], folder: Path, *, shortest: bool = False, liveness: bool = False) -> Search:
    """Builds the checker of the model with these macros, and runs it to its end or its first counterexample."""
    defines = [f"-D{macro}" for macro in macros] + (["-DLIVENESS"] if liveness else [])
    run(["spin", "-a", *defines, str(MODEL)], folder)
    mode = ["-DNFAIR=3"] if liveness else ["-DSAFETY"]
    if shortest and not liveness:
        mode.append("-DBFS")
    # Only the searches that see every state take long enough to be worth an optimised checker.
    optimised = "-O2" if not macros or liveness or shortest else "-O0"
    run(
        ["gcc", optimised, "-w", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MAX_MB}", *mode, "-o", "pan", "pan.c"],
        folder,
    )
    started_s = time.monotonic()
    options = ["-a", "-f"] if liveness else []
    said = run(["./pan", f"-m{DEPTH_MAX}", *options], folder)
    return _parsed(said, time.monotonic() - started_s)


def _parsed(said: str, took_s: float) -> Search:
    states = re.search(r"^\s*([\d.e+]+) states, stored", said, re.M)
    found = re.search(r"depth reached (\d+), errors: (\d+)", said)
    if states is None or found is None:
        raise CheckerFailed(f"the checker's answer is not understood: {said.strip()[-400:]}")
    error = re.search(r"^pan:\d+: (?:assertion violated )?(.+?) \(at depth", said, re.M)
    if int(found[2]) and error is None:
        raise CheckerFailed(f"an error without a name: {said.strip()[:400]}")
    incomplete = "Search not completed" in said or "max search depth too small" in said
    return Search(
        complete=not incomplete,
        states=int(float(states[1])),
        depth=int(found[1]),
        error=error[1] if error else None,
        took_s=took_s,
    )


def line(ok: bool, name: str, code: str, result: Search, says: str) -> bool:
    """Prints a row of the table."""
    mark = "ok  " if ok else "BAD "
    sys.stdout.write(f"{mark} {name:<57} {code:<52} {result.states:>10,} {result.took_s:>5.0f} s  {says}\n")
    sys.stdout.flush()
    return ok


def check_whole(folder: Path, liveness: bool) -> bool:
    """The model with all of its rules: no promise breaks, and everything that it should reach is reached."""
    safe = search([], folder)
    held = safe.complete and safe.error is None
    good = line(held, "all rules: nothing bad happens", "", safe, safe.error or "holds in every state")
    if liveness:
        live = search([], folder, liveness=True)
        held = live.complete and live.error is None
        good &= line(
            held, "all rules: once faults stop, all is settled", "", live, live.error or "holds on every path"
        )
    for number, what in enumerate(REACHED, 1):
        found = search([f"REACHED={number}"], folder)
        good &= line(
            found.error == "never_reached", f"reached: {what}", "", found, "yes" if found.error else "never"
        )
    return good


def check_without(rule: Rule, folder: Path, shortest: bool) -> bool:
    """The model without the rule: a promise must break."""
    liveness = rule.macro in BREAKS_LIVENESS
    found = search([rule.macro], folder, shortest=shortest, liveness=liveness)
    says = "harmless" if found.error is None else f"breaks: {found.error.replace('_', ' ')}"
    if found.error and shortest and not liveness:
        says += f", after {found.depth} steps"
    return line(_a_promise(found.error, liveness), f"without: {rule.rule}", rule.code, found, says)


def _a_promise(error: str | None, liveness: bool) -> bool:
    """Whether it is a promise that broke, not the model itself (an end where nothing can follow, say)."""
    if error is None:
        return False
    if liveness:
        return error == "acceptance cycle"
    return error in re.findall(r"^\s*promise\((\w+),", MODEL.read_text(encoding="utf-8"), re.M)


def trace(macro: str, folder: Path) -> None:
    """Prints the shortest counterexample without a rule, step by step."""
    search([macro], folder, shortest=True, liveness=macro in BREAKS_LIVENESS)
    defines = [f"-D{macro}"] + (["-DLIVENESS"] if macro in BREAKS_LIVENESS else [])
    done = subprocess.run(
        ["spin", "-t", "-p", "-g", *defines, str(MODEL)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(done.stdout)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="leave out liveness and shortest counterexamples"
    )
    parser.add_argument("--trace", metavar="MACRO", choices=[rule.macro for rule in RULES], help="show one")
    parser.add_argument("--only", nargs="+", metavar="MACRO", help="only without these rules")
    options = parser.parse_args(arguments)
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if missing:
        sys.stderr.write(f"{' and '.join(missing)} not found: apt-get install spin gcc\n")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.trace:
            trace(options.trace, folder)
            return 0
        try:
            sys.stdout.write(f"     {'what':<57} {'code':<52} {'states':>10} {'took':>7}  result\n")
            good = True if options.only else check_whole(folder, not options.quick)
            for rule in RULES:
                wanted = rule.macro in options.only if options.only else True
                if wanted and not (options.quick and rule.macro in BREAKS_LIVENESS):
                    good &= check_without(rule, folder, not options.quick)
        except CheckerFailed as error:
            sys.stderr.write(f"{error}\n")
            return 1
    sys.stdout.write("as expected\n" if good else "NOT AS EXPECTED\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
