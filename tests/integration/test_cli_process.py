"""The command line as a process of its own: pipes, terminals, signals, and what is imported."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60
Process = Callable[..., "subprocess.CompletedProcess[str]"]
CHARGE = ("charge", "10.00", "USD", "--method", "tok_ok", "--key", "order-1")


@pytest.fixture
def environ() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AEGISPAY", "FORCE_", "NO_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, *, settings: str = "", fault: str = "") -> None:
    (folder / "aegispay.toml").write_text(
        f'[store]\nurl = "sqlite:///pay.db"\n[settings]\n{settings}\n[gateways.booked]\n'
        'type = "tests.fakes.booked_gateway:BookedGateway"\n'
        f'books_path = "{folder}/books"\nfault = "{fault}"\n'
    )


def books(folder: Path, book: str = "books") -> list[str]:
    file = folder / "books"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line["kind"] for line in lines if line["book"] == book]


@pytest.fixture
def aegispay(shop: Path, environ: dict[str, str]) -> Process:
    def run(*argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aegispay", *argv],
            cwd=shop,
            env={**environ, **more},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run


def test_two_processes_with_one_key_charge_once_and_answer_the_same_bytes(
    aegispay: Process, shop: Path
) -> None:
    first, second = aegispay(*CHARGE, "--json"), aegispay(*CHARGE, "--json")
    assert (first.returncode, first.stderr) == (0, "")
    assert second.stdout == first.stdout
    assert books(shop) == ["charge"]


@pytest.mark.parametrize(
    ("argv", "variables", "status", "said"),
    [
        (("charge", "1.001", "USD", "--method", "t", "--key", "k"), {}, 2, "has 3 decimals, but USD has 2"),
        (
            ("charge", "1", "USD", "--method", "4242424242424242", "--key", "k"),
            {},
            2,
            "looks like a card number",
        ),
        (("list",), {"AEGISPAY_STORE": "postgresql://u:hunter2@127.0.0.1:1/d"}, 5, "127.0.0.1"),
        (("list",), {"AEGISPAY_CONFIG": "gone.toml"}, 2, "gone.toml: there is no such file"),
        (("list", "--jsn"), {}, 2, "No such option: --jsn"),
    ],
)
def test_an_error_is_one_line_on_the_standard_error(
    aegispay: Process, shop: Path, argv: tuple[str, ...], variables: dict[str, str], status: int, said: str
) -> None:
    run = aegispay(*argv, **variables)
    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("aegispay: error: ")
    assert said in run.stderr
    assert "hunter2" not in run.stderr
    assert not (shop / "pay.db").exists()
    assert books(shop, "calls") == []


def test_a_pipe_gets_no_colours_whole_ids_and_no_complaint_when_its_reader_leaves(
    aegispay: Process, shop: Path, environ: dict[str, str]
) -> None:
    payment = json.loads(aegispay(*CHARGE, "--json").stdout)["payment_id"]
    run = aegispay("list", FORCE_COLOR="1")
    assert "\x1b" not in run.stdout
    assert payment in run.stdout
    assert aegispay("list", PYTHONIOENCODING="ascii").returncode == 0
    command = [sys.executable, "-m", "aegispay", "list"]
    with subprocess.Popen(
        command, cwd=shop, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.close()
        assert left.stderr.read() == ""
        assert left.wait(TIMEOUT_S) == 0


def on_a_terminal(folder: Path, environ: dict[str, str], *argv: str) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "aegispay", *argv], cwd=folder, env=environ, stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        written = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # The other end is closed.
                break
            if not more:
                break
            written += more
        child.wait(TIMEOUT_S)
    os.close(ours)
    return written.decode()


def test_a_terminal_gets_colours_unless_NO_COLOR_is_set(
    aegispay: Process, shop: Path, environ: dict[str, str]
) -> None:
    aegispay(*CHARGE)
    assert "\x1b[" in on_a_terminal(shop, environ, "list")
    for quiet in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_a_terminal(shop, {**environ, **quiet}, "list")


def started(folder: Path, environ: dict[str, str], *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aegispay", *argv],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    while not condition():
        assert child.poll() is None, child.communicate()


def test_ctrl_c_in_the_middle_of_a_charge_leaves_it_recorded_and_recovery_finds_it(
    aegispay: Process, shop: Path, environ: dict[str, str]
) -> None:
    quick = "call_timeout_s = 3.0\nlease_margin_s = 1.0\nanswer_timeout_s = 3.0"
    quick += "\nrecovery_retry.initial_delay_s = 0.0\nrecovery_retry.delay_max_s = 0.0"
    configure(shop, fault="hang", settings=quick)
    with started(shop, environ, *CHARGE) as child:
        until(lambda: bool(books(shop)), child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 130
    assert out == ""
    assert err.count("\n") == 1
    assert "repeat the command with the same --key" in err
    configure(shop, settings=quick.replace("3.0", "0.5"))
    listed = json.loads(aegispay("list", "--json").stdout)
    assert [one["state"] in ("processing", "in_doubt") for one in listed] == [True]
    again = aegispay(*CHARGE, "--json")
    while again.returncode == 3:
        aegispay("recover")
        again = aegispay(*CHARGE, "--json")
    assert json.loads(again.stdout)["state"] == "succeeded"
    assert books(shop) == ["charge"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_ends_cleanly_on_a_signal(
    aegispay: Process, shop: Path, environ: dict[str, str], number: signal.Signals
) -> None:
    aegispay("migrate")
    with started(shop, environ, "recover", "--watch") as child:
        assert child.stderr is not None
        assert "watching" in child.stderr.readline()
        child.send_signal(number)
        out, err = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, err) == (0, "")
    assert "still open" in out


def python(code: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(missing: str, environ: dict[str, str]) -> None:
    run = python(
        f"import sys; sys.modules['{missing}'] = None\nfrom aegispay.cli import main; sys.exit(main(['list']))",
        environ,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "aegispay: error: the command line needs an extra: pip install 'aegispay[cli]'\n"


def test_importing_the_library_imports_no_command_line(environ: dict[str, str]) -> None:
    code = "import sys, aegispay; print([m for m in sys.modules if m in ('typer', 'rich', 'aegispay.cli', 'tomllib')])"
    assert python(code, environ).stdout == "[]\n"
