"""The command line on PostgreSQL: the same commands, and databases that are not as they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aegispay.cli import main
from aegispay.testing.postgres import ExternalServer, PostgresServer

Command = Callable[..., tuple[int, str, str]]
CHARGE = ("charge", "10.00", "USD", "--method", "tok_ok", "--key", "order-1", "--json")


@pytest.fixture
def aegispay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aegispay.toml").write_text(
        '[store]\nurl_env = "SHOP_DATABASE"\n[gateways.booked]\n'
        f'type = "tests.fakes.booked_gateway:BookedGateway"\nbooks_path = "{tmp_path}/books"\n'
    )

    def call(dsn: str, *argv: str) -> tuple[int, str, str]:
        monkeypatch.setenv("SHOP_DATABASE", dsn)
        capsys.readouterr()
        with ThreadPoolExecutor(1) as thread:
            status = thread.submit(main, argv).result()
        return status, *capsys.readouterr()

    return call


def test_the_commands_work_on_postgresql(aegispay: Command, postgres_dsn: str, tmp_path: Path) -> None:
    status, out, _ = aegispay(postgres_dsn, *CHARGE)
    assert status == 0
    assert aegispay(postgres_dsn, *CHARGE) == (0, out, "")
    payment = json.loads(out)["payment_id"]
    assert aegispay(postgres_dsn, "refund", payment, "4", "--key", "r")[0] == 0
    assert "partially_refunded" in aegispay(postgres_dsn, "show", payment)[1]
    assert payment in aegispay(postgres_dsn, "list")[1]
    assert aegispay(postgres_dsn, "recover")[0] == 0
    status, out, _ = aegispay(postgres_dsn, "check")
    assert status == 0
    assert "durable (" in out
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "books").read_text().splitlines()]
    assert kinds == ["charge", "charge", "refund", "refund"]


def test_a_database_without_tables_is_migrated_on_demand_and_not_by_looking(
    aegispay: Command, postgres_server: PostgresServer | ExternalServer
) -> None:
    dsn = postgres_server.create_database(migrated=False)
    for argv in (("list",), ("recover",), ("show", "pay_" + "0" * 32)):
        status, out, err = aegispay(dsn, *argv)
        assert (status, out) == (2, "")
        assert "Run `aegispay migrate` first" in err
    assert aegispay(dsn, "check")[0] == 2
    assert json.loads(aegispay(dsn, "migrate", "--status", "--json")[1])["revision"] is None
    assert aegispay(dsn, "migrate")[0] == 0
    assert aegispay(dsn, "list")[0] == 0


def test_a_database_that_is_not_there_or_refuses_the_password_is_one_line_without_it(
    aegispay: Command, postgres_server: PostgresServer | ExternalServer, tmp_path: Path
) -> None:
    gone = postgres_server.dsn_of("no_such_database")
    password = gone.split(":")[2].split("@")[0]
    for dsn in (gone, gone.replace(f":{password}@", ":hunter2@")):
        status, out, err = aegispay(dsn, *CHARGE[:-1])
        assert status in (2, 5)
        assert out == ""
        assert err.count("\n") == 1
        assert password not in err
        assert "hunter2" not in err
    assert not (tmp_path / "books").exists()
