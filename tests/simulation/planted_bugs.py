"""A tested test: bugs that are planted one by one, each of which the simulation must find within 2,000 seeds.

`python -m tests.simulation.planted_bugs [name ...]` prints which seed found which bug; it exits with 1 where one lives.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from aegispay.testing.simulation import Mode, Simulation
from tests.simulation.planted_inbound import INBOUND_BUGS
from tests.simulation.planted_outside import OUTSIDE_BUGS
from tests.simulation.planting import Mutation, Planted, planted

SEEDS_MAX = 2_000
CALLS = "orchestration.calls:Calls."
EVIDENCE = "orchestration.evidence:EvidenceSearch."
RECORDER = "orchestration.recorder:Recorder."
ROWS = "orchestration.rows:Rows."
DRIVER = "orchestration.driver:Driver."
WORKER = "orchestration.recovery:RecoveryWorker."
CREATE = "orchestration.orchestrator:Orchestrator._create"
SQLITE = "storage.sqlite_writer:"

CANARY = Planted(
    "every call is made twice, under two keys: if this is not found, nothing is",
    (
        Mutation(
            CALLS + "send",
            "return await self._perform(gateway, self.call_for(payment, operation))",
            "from msgspec.structs import replace\n"
            "        call = self.call_for(payment, operation)\n"
            "        await self._perform(gateway, replace(call, gateway_key=call.gateway_key + 'x'))\n"
            "        return await self._perform(gateway, call)",
        ),
    ),
)

BUGS: dict[str, Planted] = {
    "failover_on_timeout": Planted(
        "a time-out counts as proof that nothing happened, and the next gateway is asked",
        (
            Mutation(
                CALLS + "send",
                "return await self._perform(gateway, self.call_for(payment, operation))",
                "outcome = await self._perform(gateway, self.call_for(payment, operation))\n"
                "        return NotSent(reason='timeout') if isinstance(outcome, InDoubt) else outcome",
            ),
        ),
    ),
    "send_before_record": Planted(
        "the gateway is called before the intent is committed",
        (
            Mutation(
                CREATE,
                "payment = await self.journal.commit(draft, claim=claim, opens=(row,))",
                "await self.engine.calls.send(draft.current, draft.current.operations[-1], row)\n"
                "        payment = await self.journal.commit(draft, claim=claim, opens=(row,))",
            ),
        ),
    ),
    "mark_before_send": Planted(
        "a call that was not answered counts as done",
        (
            Mutation(
                CALLS + "_perform",
                'return InDoubt(reason="timeout")',
                "from aegispay.domain.outcomes import Approved\n"
                "        return Approved(reference='?', amount_minor=call.amount.amount_minor)",
            ),
            Mutation(
                CALLS + "send",
                "return await self._perform(gateway, self.call_for(payment, operation))",
                "outcome = await self._perform(gateway, self.call_for(payment, operation))\n"
                "        if isinstance(outcome, InDoubt):\n"
                "            from aegispay.domain.outcomes import Approved\n"
                "            return Approved(reference='?', amount_minor=operation.amount_minor)\n"
                "        return outcome",
            ),
        ),
    ),
    "fence_not_compared": Planted(
        "a worker that lost its lease may still write",
        (Mutation(SQLITE + "refusal", "if held is None or held[0] != fence:", "if False:"),),
    ),
    "fence_not_raised": Planted(
        "a takeover leaves the fence as it was",
        (Mutation(SQLITE + "TAKE_OVER", "fence = fence + 1", "fence = fence"),),
    ),
    "lookup_trusted_early": Planted(
        "a look-up that finds nothing is believed at once",
        (Mutation(EVIDENCE + "look", ">= quiet_us", ">= 0"),),
    ),
    "unauthoritative_lookup_of_waiting": Planted(
        "an operation that the gateway works on is ended because a lagging look-up does not see it",
        (
            Mutation(EVIDENCE + "seek", "trusted=trusted", "trusted=True"),
            Mutation(EVIDENCE + "look", ">= quiet_us", ">= 0"),
        ),
    ),
    "resend_after_key_expired": Planted(
        "a resend is made after the PSP has forgotten the key",
        (
            Mutation(
                EVIDENCE + "_may_resend",
                "within_ttl = self._clock.now_us() - operation",
                "within_ttl = True or self._clock.now_us() - operation",
            ),
        ),
    ),
    "resend_without_keys": Planted(
        "what is in doubt is sent again to a PSP that does not replay",
        (Mutation(EVIDENCE + "_may_resend", "key_ttl_us > 0 and within_ttl", "True"),),
    ),
    "resend_under_new_key": Planted(
        "each send has a key of its own",
        (
            Mutation(
                CALLS + "call_for",
                "gateway_key=operation.gateway_key",
                "gateway_key=f'{operation.gateway_key}{self._leases._journal.new_operation_id()[-6:]}'",
            ),
        ),
    ),
    "key_is_not_unique": Planted(
        "operations of the same moment share a key",
        (Mutation("domain.decide:gateway_key", "return operation_id", "return operation_id[:15]"),),
    ),
    "blind_retry": Planted(
        "a call without an answer is simply made again",
        (
            Mutation(
                DRIVER + "_send",
                "if not isinstance(outcome, NotSent) or tries",
                "if not (type(outcome).__name__ in ('NotSent', 'InDoubt')) or tries",
            ),
        ),
    ),
    "refund_without_reservation": Planted(
        "refunds under way do not count",
        (
            Mutation(
                "domain.payment:Payment.reserved",
                "if op.kind is kind and",
                "if op.kind is kind and kind is not OperationKind.REFUND and",
            ),
        ),
    ),
    "capture_without_reservation": Planted(
        "captures under way do not count",
        (
            Mutation(
                "domain.payment:Payment.reserved",
                "if op.kind is kind and",
                "if op.kind is kind and kind is not OperationKind.CAPTURE and",
            ),
            Mutation("domain.decide:_start_capture", "if blocker is not None and (", "if False and ("),
        ),
    ),
    "stale_lease_sends": Planted(
        "an owner that stalled sends although its lease is over",
        (
            Mutation(CALLS + "send", "if not self._leases.covers_call(row):", "if False:"),
            Mutation(DRIVER + "_send", "if engine.leases.holds(row) and not", "if False and not"),
            Mutation("gateways.permit:may_leave", "return holds is None or holds()", "return True"),
        ),
    ),
    "quiet_from_record": Planted(
        "the quiet period counts from the record, not from the end of a dead owner's lease",
        (
            Mutation(
                SQLITE + "_last_send_us",
                "return max(sent_at_us, due_at_us) if owner else sent_at_us",
                "return sent_at_us",
            ),
        ),
    ),
    "quiet_from_start_of_call": Planted(
        "the quiet period counts from before the call, whose request left later",
        (
            Mutation(DRIVER + "_send", "row = replace(row, sent_at_us=self._clock.now_us())", "pass"),
            Mutation(EVIDENCE + "seek", "row = replace(row, sent_at_us=self._clock.now_us())", "pass"),
        ),
    ),
    "not_sent_resend_is_evidence": Planted(
        "a resend that was not sent counts as proof about the first send",
        (
            Mutation(
                "orchestration.known:is_evidence",
                "isinstance(outcome, Approved | RequiresAction | Pending)",
                "isinstance(outcome, Approved | RequiresAction | Pending | NotSent)",
            ),
        ),
    ),
    "cancel_not_awaited": Planted(
        "a cancel by reference counts although the PSP did not confirm it",
        (
            Mutation(
                EVIDENCE + "look",
                "if isinstance(canceled, Approved) else None",
                "if canceled is not None else None",
            ),
        ),
    ),
    "cancel_left_out": Planted(
        "a look-up that finds nothing is believed where only a cancel would close the door",
        (Mutation(EVIDENCE + "look", "if not caps.cancels(call.kind):", "if True:"),),
    ),
    "crash_means_not_sent": Planted(
        "an operation whose owner died counts as not sent",
        (
            Mutation(
                "orchestration.open_calls:OpenCalls.resolve",
                "engine = self._engine",
                "from aegispay.domain.outcomes import NotSent\n    engine = self._engine",
            ),
            Mutation(
                "orchestration.open_calls:OpenCalls.resolve",
                'InDoubt(reason="owner_gone")',
                "NotSent(reason='owner_gone')",
            ),
        ),
    ),
    "server_error_means_no": Planted(
        "Stripe's 5xx counts as proof that nothing happened",
        (
            Mutation(
                "gateways.stripe.replies:error_outcome",
                'return InDoubt(reason=SAVED_ERROR if saved else "server_error"',
                'return NotSent(reason=SAVED_ERROR if saved else "server_error"',
            ),
        ),
    ),
    "saved_error_is_final": Planted(
        "an error that Stripe replays counts as a definitive no",
        (
            Mutation(
                "gateways.stripe.replies:error_outcome",
                'return InDoubt(reason=SAVED_ERROR if saved else "server_error"',
                "if saved:\n            return Declined(category=DeclineCategory.HARD, code='server_error')\n"
                '        return InDoubt(reason=SAVED_ERROR if saved else "server_error"',
            ),
        ),
    ),
    "watch_dropped": Planted(
        "nobody looks again at what was not found",
        (Mutation(ROWS + "after", "if is_weak(outcome) and row.purpose is not Purpose.WATCH:", "if False:"),),
        "late",
    ),
    "watch_of_attempts_only": Planted(
        "nobody looks again at captures and refunds that were not found",
        (
            Mutation(
                ROWS + "after",
                "if is_weak(outcome) and row.purpose is not Purpose.WATCH:",
                "if is_weak(outcome) and operation.attempt and row.purpose is not Purpose.WATCH:",
            ),
        ),
        "late",
    ),
    "late_success_not_reversed": Planted(
        "a late success is recorded and left",
        (
            Mutation(
                RECORDER + "_take_back", "for unwanted in unreversed(draft.current):", "for unwanted in ():"
            ),
            Mutation("domain.record:stranded", "return bool(unreversed(payment))", "return False"),
        ),
        "late",
    ),
    "claim_not_written": Planted(
        "the idempotency key is not claimed",
        (Mutation(CREATE, "commit(draft, claim=claim, opens=(row,))", "commit(draft, opens=(row,))"),),
    ),
    "claim_not_compared": Planted(
        "another request under a key gets the first one's answer",
        (
            Mutation("orchestration.answers:Answers.follow", "if claim.request_hash != asked:", "if False:"),
            Mutation("orchestration.flights:Flights.answered", "if found[0] != request_hash:", "if False:"),
        ),
    ),
    "flight_by_key_alone": Planted(
        "another request under a key joins the first one's flight",
        (
            Mutation(
                "orchestration.flights:Flights.join", "name = (digest, request_hash)", 'name = (digest, b"")'
            ),
        ),
    ),
    "answer_as_of_now": Planted(
        "a replay is answered with the payment as it is now, not as it was answered",
        (
            Mutation("orchestration.answers:Answers.of", "elif version != payment.version:", "elif False:"),
            Mutation(
                "orchestration.answers:Answers.of",
                "if ending is not None and version != begun + 1:",
                "if False:",
            ),
        ),
    ),
    "policy_of_the_worker_alone": Planted(
        "a success that a webhook tells of stands, though its caller was left in doubt and the policy says otherwise",
        (
            Mutation(
                DRIVER + "found",
                "served = is_served(",
                "served = known.evidence is Evidence.WEBHOOK or is_served(",
            ),
        ),
    ),
    "confirmation_without_policy": Planted(
        "the payer's step, in doubt, is not what the policy is about",
        (
            Mutation(
                "orchestration.doubt:after_doubt",
                "operation.attempt or operation.kind is OperationKind.CONFIRM",
                "operation.attempt",
            ),
        ),
    ),
    "answer_cached_while_pending": Planted(
        "a pending answer is kept as if it were final",
        (
            Mutation(
                "orchestration.answers:Answers.of",
                "if not version or (ending is not None and not _ended(payment, ending)):\n",
                "if not version or (ending is not None and not _ended(payment, ending)):\n"
                "        self._flights.keep(claim.digest, claim.request_hash, _current(payment, claim))\n",
            ),
        ),
    ),
    "outcome_dropped_on_conflict": Planted(
        "an outcome is thrown away when somebody else wrote first",
        (
            Mutation(
                RECORDER + "record",
                "except VersionConflict:\n            payment = await self._journal.load(payment.id)",
                "except VersionConflict:\n            return Recorded(draft.current, None, ())",
            ),
        ),
    ),
    "in_flight_row_not_opened": Planted(
        "an operation begins and no recovery worker will ever see it",
        (Mutation(SQLITE + "_write", "[one for row in rows for one in row.opens]", "[]"),),
    ),
    "in_flight_row_forgotten": Planted(
        "an operation in doubt leaves the in-flight table",
        (
            Mutation(
                ROWS + "after",
                "return self.leased(replace(row, purpose=Purpose.CALL))",
                "return None",
            ),
        ),
    ),
    "was_applied_always": Planted(
        "a write that was refused after an outage counts as applied",
        (
            Mutation(
                "orchestration.journal:Journal._was_applied",
                "return bool(stored) and stored[-1].id == last.id",
                "return True",
            ),
        ),
    ),
    "claim_lost_on_retry": Planted(
        "the second try of a write leaves its claim out",
        (
            Mutation(
                "orchestration.journal:Journal._write",
                "in_doubt = in_doubt or lost",
                "in_doubt = in_doubt or lost\n            write = __import__('msgspec').structs.replace(write, claim=None)",
            ),
        ),
    ),
    "projection_not_updated": Planted(
        "the stored projection stays as it was first written",
        (
            Mutation(
                SQLITE + "UPDATE_PAYMENT",
                "body = ?",
                "body = CASE WHEN state = 'captured' THEN ? ELSE body END",
            ),
        ),
    ),
    "second_event_lost": Planted(
        "only the first event of a write is stored",
        (Mutation(SQLITE + "_write", "for event in row.events]", "for event in row.events[:1]]"),),
    ),
    "authorisation_never_lapses": Planted(
        "what nobody captures is held for ever",
        (
            Mutation(
                "orchestration.lapses:Lapses.expire",
                "await self._cancel(payment, row)",
                "await self._engine.leases.release(payment, row)",
            ),
        ),
    ),
    "lapse_forgotten": Planted(
        "an authorisation that was found through another row is held for ever",
        (
            Mutation(
                "orchestration.leases:Leases.release",
                "if operation and lapses else None",
                "if False else None",
            ),
        ),
        "late",
    ),
    "payer_waited_for_for_ever": Planted(
        "a payer who does not come back leaves the payment open",
        (
            Mutation(
                ROWS + "waiting_for_payer",
                "self._settings.action_timeout_s",
                "10**7 * self._settings.action_timeout_s",
            ),
        ),
    ),
    "worker_stops_at_first_error": Planted(
        "the recovery worker ends when the store is away",
        (
            Mutation(
                WORKER + "_run",
                "except StoreError as error:",
                "except StoreError as error:\n            return",
            ),
        ),
    ),
    "decline_recorded_as_success": Planted(
        "a card that was refused counts as charged",
        (
            Mutation(
                "gateways.stripe.replies:intent_outcome",
                'if status == "processing":',
                'if status in ("processing", "requires_payment_method"):',
            ),
        ),
    ),
    "released_amount_not_recorded": Planted(
        "what a final capture releases stays authorised in our books",
        (
            Mutation(
                "sandbox.plainpay_gateway:PlainPayGateway.capture", '"final": call.final', '"final": True'
            ),
        ),
    ),
}
BUGS.update(INBOUND_BUGS)
BUGS.update(OUTSIDE_BUGS)


def find(bug: Planted, seeds_max: int = SEEDS_MAX) -> tuple[int, str] | None:
    """The first seed that finds the bug and what it says, or None."""
    Simulation(0, mode=Mode.CALM).run()
    with planted(bug):
        gc.disable()
        try:
            for seed in range(seeds_max):
                report = Simulation(seed, mode=bug.mode).run()
                if not report.ok:
                    one = report.violations[0]
                    return seed, f"{one.promise}: {one.detail}"
                if seed % 50 == 0:
                    gc.collect()
        finally:
            gc.enable()
    return None


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def hunt(name: str) -> tuple[str, bool]:
    """A line about this bug, and whether it was found."""
    bug = CANARY if name == "canary" else BUGS[name]
    started_s = time.process_time()
    try:
        found = find(bug, 5 if name == "canary" else SEEDS_MAX)
    except LookupError as error:
        return f"NOT PLANTED {name}: {error}", False
    if found is None:
        return f"ALIVE  {name}: {bug.why} ({time.process_time() - started_s:.0f} s)", False
    return f"seed {found[0]:>5}  {name}: {found[1][:110]}", True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted_bugs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the bugs to hunt; all of them by default")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in BUGS and name != "canary"]
    if unknown:
        say(f"unknown: {', '.join(unknown)}; known: {', '.join(BUGS)}")
        return 2
    names = asked.names or ["canary", *BUGS]
    alive = 0
    if asked.jobs > 1:
        with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
            for waiting in as_completed([pool.submit(hunt, name) for name in names]):
                line, found = waiting.result()
                say(line)
                alive += not found
    else:
        for name in names:
            line, found = hunt(name)
            say(line)
            alive += not found
    say(f"{len(names) - alive} found, {alive} alive")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
