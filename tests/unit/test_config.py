"""The configuration: what is read from where, and one clear line for whatever is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from aegispay.config import (
    Config,
    build,
    build_registry,
    load,
    setting_variables,
    unknown_variables,
)
from aegispay.domain.errors import ConfigError
from aegispay.orchestration.settings import DoubtPolicy, Settings
from aegispay.resilience.retry import RetryPolicy

ROOT = Path(__file__).parents[2]
SECRET = "sk_test_51NeverShowThis"
INSTANT = 'type = "aegispay.testing.instant_gateway:InstantGateway"'


def write(folder: Path, text: str) -> Path:
    file = folder / "aegispay.toml"
    file.write_text(text)
    return file


def refused(folder: Path, text: str, environ: dict[str, str] | None = None, *, make: bool = False) -> str:
    """The one line that the configuration is refused with."""
    file = write(folder, text)

    def read() -> None:
        config = load(file, environ=environ or {})
        if make:
            build_registry(config, environ=environ or {})

    with pytest.raises(ConfigError) as caught:
        read()
    line = str(caught.value)
    assert "\n" not in line
    assert SECRET not in line
    assert "hunter2" not in line
    return line


# --- what is read -------------------------------------------------------------------------------------------


def test_without_a_file_everything_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(environ={})
    assert config == Config(source="defaults", store_url="sqlite:///aegispay.db", settings=Settings())


def test_the_file_is_found_by_argument_then_variable_then_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, tries in (("aegispay.toml", 1), ("named.toml", 2), ("given.toml", 3)):
        (tmp_path / name).write_text(f"[settings]\nresends_max = {tries}")
    named = {"AEGISPAY_CONFIG": "named.toml"}
    assert load(environ={}).settings.resends_max == 1
    assert load(environ=named).settings.resends_max == 2
    assert load("given.toml", environ=named).settings.resends_max == 3


def test_every_section_reaches_the_orchestrator(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        f"""
        [store]
        url = "sqlite:///shop.db"
        [settings]
        call_timeout_s = 4
        doubt_policy = "review"
        [settings.inline_retry]
        attempts_max = 7
        [routing]
        order = ["second"]
        [gateways.first]
        {INSTANT}
        [gateways.second]
        {INSTANT}
        """,
    )
    pay = build(load(file, environ={}), environ={})
    assert pay.registry.names == ("first", "second")
    assert pay.settings.call_timeout_s == 4.0
    assert pay.settings.doubt_policy is DoubtPolicy.REVIEW
    assert pay.settings.inline_retry == RetryPolicy(attempts_max=7, initial_delay_s=0.1, delay_max_s=2.0)
    assert pay.settings.recovery_retry == Settings().recovery_retry


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, f"[settings]\nresends_max = 3\n[gateways.a]\n{INSTANT}\n[gateways.b]\n{INSTANT}")
    config = load(
        file,
        environ={
            "AEGISPAY_RESENDS_MAX": "5",
            "AEGISPAY_RECOVERY": "false",
            "AEGISPAY_DOUBT_POLICY": "reverse",
            "AEGISPAY_INLINE_RETRY_ATTEMPTS_MAX": "9",
            "AEGISPAY_ROUTING_ORDER": "b, a",
            "AEGISPAY_STORE": "sqlite:///other.db",
        },
    )
    assert (config.settings.resends_max, config.settings.recovery) == (5, False)
    assert config.settings.doubt_policy is DoubtPolicy.REVERSE
    assert config.settings.inline_retry.attempts_max == 9
    assert config.order == ("b", "a")
    assert config.store_url == "sqlite:///other.db"
    assert config.origin("settings.resends_max") == "environment AEGISPAY_RESENDS_MAX"
    assert config.origin("settings.call_timeout_s") == "default"


def test_each_setting_has_one_variable_of_its_own() -> None:
    paths = list(setting_variables().values())
    leaves = sum(
        len(RetryPolicy.__struct_fields__) if "retry" in n else 1 for n in Settings.__struct_fields__
    )
    assert len(paths) == len(set(paths)) == leaves


def test_a_relative_database_in_the_file_is_beside_the_file_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path, '[store]\nurl = "sqlite:///shop.db"')
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(tmp_path / "aegispay.toml", environ={}).store_url == f"sqlite:///{tmp_path}/shop.db"
    assert load("../aegispay.toml", environ={}).store_url.endswith("/../shop.db")
    write(tmp_path, "")
    assert load(tmp_path / "aegispay.toml", environ={}).store_url == f"sqlite:///{tmp_path}/aegispay.db"


def test_a_store_with_a_password_comes_from_the_environment_and_is_never_printed(tmp_path: Path) -> None:
    url = "postgresql://shop:hunter2@db.example/pay"
    file = write(tmp_path, '[store]\nurl_env = "DATABASE_URL"')
    for environ in ({"DATABASE_URL": url}, {"AEGISPAY_STORE": url}):
        config = load(file, environ=environ)
        assert config.store_url == url
        assert "hunter2" not in repr(config)
        assert "shop@db.example/pay" in repr(config)


def test_a_secret_is_read_when_the_gateway_is_made_and_the_configuration_never_holds_it(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, '[gateways.stripe]\ntype = "stripe"\napi_key_env = "STRIPE_API_KEY"')
    environ = {"STRIPE_API_KEY": SECRET}
    config = load(file, environ=environ)
    assert SECRET not in repr(msgspec.to_builtins(config))
    assert build_registry(config, environ=environ).get("stripe").name == "stripe"


def test_options_reach_the_adapter_in_its_own_types(tmp_path: Path) -> None:
    books = tmp_path / "books"
    file = write(
        tmp_path,
        f"""[gateways.booked]
        type = "tests.fakes.booked_gateway:BookedGateway"
        books_path = "{books}"
        fault = "request_lost"
        healthy = false
        """,
    )
    gateway = build_registry(load(file, environ={}), environ={}).get("booked")
    assert (gateway.books_path, gateway.fault, gateway.healthy) == (books, "request_lost", False)  # type: ignore[attr-defined]


def test_misspelt_variables_are_noticed_and_others_of_the_same_prefix_are_not() -> None:
    environ = {
        "AEGISPAY_STROE": "x",
        "AEGISPAY_STORE": "x",
        "AEGISPAY_SERVICE_PORT_80_TCP_ADDR": "x",
        "OTHER": "x",
    }
    assert unknown_variables(environ) == [("AEGISPAY_STROE", "AEGISPAY_STORE")]


# --- what is refused ----------------------------------------------------------------------------------------

REFUSED = {
    "broken TOML": ("[store\nurl = 1", r"not valid TOML.*line 1"),
    "a value twice": ('[store]\nurl = "sqlite:///a"\nurl = "sqlite:///b"', r"not valid TOML"),
    "an endless number": (f"[settings]\nresends_max = {'9' * 5000}", r"not valid TOML"),
    "deep nesting": ("[settings]\nx = " + "[" * 5000, r"not valid TOML"),
    "unknown section": ("[setings]\nx = 1", r"\[setings\]: unknown section\. Did you mean settings\?"),
    "section as value": ("settings = 3", r"settings: expected a section\. Write \[settings\]"),
    "unknown key": (
        "[settings]\ncall_timout_s = 1",
        r"\[settings\] call_timout_s: unknown key\. Did you mean call_timeout_s\?",
    ),
    "unknown nested key": (
        "[settings.inline_retry]\nattempts = 1",
        r"\[settings\.inline_retry\] attempts: unknown key\. Did you mean attempts_max\?",
    ),
    "nested as value": ("[settings]\ninline_retry = 3", r"inline_retry: expected a table"),
    "text for a number": (
        '[settings]\ncall_timeout_s = "10"',
        r"call_timeout_s: expected a number, got text\. Write it like call_timeout_s = 10\.0\.",
    ),
    "a number for a boolean": ("[settings]\nrecovery = 1", r"recovery: expected true or false, got a whole number"),
    "a boolean for a number": ("[settings]\nresends_max = true", r"resends_max: expected a whole number"),
    "a fraction": ("[settings]\nresends_max = 1.5", r"resends_max: expected a whole number"),
    "a date": ("[settings]\ncall_timeout_s = 2026-01-01", r"call_timeout_s: expected a number"),
    "zero": ("[settings]\ncall_timeout_s = 0", r"\[settings\]: call_timeout_s must be greater than 0"),
    "negative": ("[settings]\nresends_max = -1", r"\[settings\]: resends_max must be greater than 0"),
    "not a number": ("[settings]\ncall_timeout_s = nan", r"call_timeout_s: the number is too large or not a number"),
    "for ever": ("[settings]\nreview_after_s = inf", r"review_after_s: the number is too large"),
    "absurdly long": ("[settings]\nreview_after_s = 1e300", r"review_after_s: the number is too large"),
    "absurdly many": ("[settings]\nresends_max = 10000000000", r"resends_max: the number is too large"),
    "bad retry": (
        "[settings.recovery_retry]\nmultiplier = 0.5",
        r"\[settings\.recovery_retry\]: a retry policy needs",
    ),
    "no such policy": ('[settings]\ndoubt_policy = "holt"', r"'holt' is none of hold, .*Did you mean hold\?"),
    "policy of a wrong type": ("[settings]\ndoubt_policy = 3", r"doubt_policy: expected one of hold"),
    "unknown store key": ('[store]\nurll = "sqlite:///a"', r"\[store\] urll: unknown key\. Did you mean url\?"),
    "store as number": ("[store]\nurl = 5", r"\[store\] url: expected text"),
    "empty store": ('[store]\nurl = ""', r"\[store\] url: the store's URL is empty"),
    "another database": ('[store]\nurl = "mysql://h/d"', r"\[store\] url: no store is known for mysql://"),
    "too few slashes": ('[store]\nurl = "sqlite://pay.db"', r"\[store\] url: .*three slashes"),
    "one slash": ('[store]\nurl = "postgres:/h/d"', r"\[store\] url: postgres: must be followed by two slashes"),
    "no database": ('[store]\nurl = "postgresql://h"', r"\[store\] url: the PostgreSQL URL names no database"),
    "bad port": ('[store]\nurl = "postgresql://h:99999/d"', r"\[store\] url: .*host or port cannot be read"),
    "control characters": ('[store]\nurl = "sqlite:///a\\u001b[31m"', r"\[store\] url: .*cannot be printed"),
    "two urls": ('[store]\nurl = "sqlite:///a"\nurl_env = "B"', r"url and url_env are both set"),
    "variable of the store not set": ('[store]\nurl_env = "NOPE"', r"NOPE is not set\. Set it: export NOPE="),
    "unknown routing key": ("[routing]\norders = []", r"\[routing\] orders: unknown key\. Did you mean order\?"),
    "order of a wrong type": ("[routing]\norder = [1]", r"\[routing\] order: .*expected text, got a whole number"),
    "order names nobody": (
        f'[routing]\norder = ["strip"]\n[gateways.stripe]\n{INSTANT}',
        r"no gateway is named 'strip'\. Did you mean stripe\?",
    ),
    "order twice": (f'[routing]\norder = ["a", "a"]\n[gateways.a]\n{INSTANT}', r"a gateway is named twice"),
    "gateway name": (f"[gateways.'Big One']\n{INSTANT}", r"\[gateways\.Big One\]: not a gateway name"),
    "gateway as value": ('[gateways]\ntype = "stripe"', r"\[gateways\.type\]: expected a table"),
    "no type": ("[gateways.a]\nx = 1", r"\[gateways\.a\]: type is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_file_is_refused_with_its_name_the_key_and_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    line = refused(tmp_path, text)
    assert line.startswith(str(tmp_path / "aegispay.toml")), line
    assert re.search(said, line), line


GATEWAYS_REFUSED = {
    "unknown type": ('type = "stipe"', r"'stipe' is unknown\. Did you mean stripe\?"),
    "module is missing": ('type = "nowhere.at_all:Thing"', r"cannot be imported: nowhere is missing.*PYTHONPATH"),
    "class is missing": ('type = "aegispay.app:Nope"', r"'aegispay\.app' has no 'Nope'"),
    "not a gateway": ('type = "tests.fakes.booked_gateway:NOT_A_GATEWAY"', r"is not a gateway"),
    "the abstract port": ('type = "aegispay.gateways.gateway:Gateway"', r"is not a gateway"),
    "unknown option": ('type = "stripe"\nbase_ulr = "x"', r"base_ulr: unknown option of stripe\. Did you mean base_url\?"),
    "option of a wrong type": (
        'type = "stripe"\napi_key_env = "KEY"\nsearch = "yes"',
        r"\[gateways\.a\] search: expected true or false, got text",
    ),
    "not from a file": ('type = "stripe"\ntransport = "x"', r"transport: unknown option"),
    "no key": ('type = "stripe"', r'stripe needs api_key\. Write api_key_env = "A_API_KEY"'),
    "variable is not set": (
        'type = "stripe"\napi_key_env = "NOT_THERE"',
        r"api_key_env: the environment variable NOT_THERE is not set\. Set it: export NOT_THERE=",
    ),
    "variable is blank": ('type = "stripe"\napi_key_env = "BLANK"', r"BLANK is not set"),
    "publishable key": ('type = "stripe"\napi_key_env = "PUBLIC"', r"\[gateways\.a\]: that is a publishable"),
    "unknown variable": ('type = "stripe"\napi_key_env = "KEY"\nsecret_env = "KEY"', r"secret_env: unknown option"),
    "adapter that raises": (
        'type = "tests.fakes.booked_gateway:ThrowingGateway"\napi_key_env = "KEY"',
        r"could not be made: RuntimeError",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), GATEWAYS_REFUSED.values(), ids=GATEWAYS_REFUSED.keys())
def test_a_gateway_that_cannot_be_made_is_refused_and_its_secret_not_shown(
    tmp_path: Path, text: str, said: str
) -> None:
    environ = {"KEY": SECRET, "BLANK": "  ", "PUBLIC": "pk_test_1"}
    line = refused(tmp_path, f"[gateways.a]\n{text}", environ, make=True)
    assert "[gateways.a]" in line
    assert re.search(said, line), line


SECRETS = {
    "by name": (f'[gateways.a]\ntype = "stripe"\napi_key = "{SECRET}"', r'Write api_key_env = "A_API_KEY"'),
    "by name alone": ('[gateways.a]\ntype = "stripe"\napi_key = "hunter2"', r'Write api_key_env = "A_API_KEY"'),
    "by any name": (f'[gateways.a]\ntype = "stripe"\nclient-secret = "{SECRET}"', r"client-secret: a secret"),
    "by its form": (f'[gateways.a]\ntype = "stripe"\nbase_url = "{SECRET}"', r"base_url: a secret"),
    "where a variable's name belongs": (
        f'[gateways.a]\ntype = "stripe"\napi_key_env = "{SECRET}"',
        r'Write api_key_env = "A_API_KEY"',
    ),
    "in a list": (f'[gateways.a]\ntype = "stripe"\nx = [1, "{SECRET}"]', r"\[gateways\.a\] x: a secret"),
    "in a table of its own": (f'[gateways.a.options]\napi_key = "{SECRET}"', r"\[gateways\.a\.options\] api_key"),
    "in a wrong section": (f'[strype]\napi_key = "{SECRET}"', r"\[strype\] api_key: a secret"),
    "outside all sections": (f'api_key = "{SECRET}"', r": api_key: a secret"),
    "in a gateway's URL": ('[gateways.a]\nbase_url = "http://u:hunter2@h"', r"base_url: a secret"),
    "in the store's URL": (
        '[store]\nurl = "postgresql://u:hunter2@h/d"',
        r"password does not belong in the file\. Put the whole URL in the environment variable AEGISPAY_STORE",
    ),
    "as a parameter of the store's URL": ('[store]\nurl = "postgresql://h/d?password=hunter2"', r"password does not"),
    "in another database's URL": ('[store]\nurl = "mysql+x://u:hunter2@h/d"', r"password does not"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_in_the_file_is_refused_without_being_shown(tmp_path: Path, text: str, said: str) -> None:
    assert re.search(said, refused(tmp_path, text))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"AEGISPAY_CALL_TIMEOUT_S": "soon"},
            r"environment variable AEGISPAY_CALL_TIMEOUT_S: expected a number",
        ),
        ({"AEGISPAY_CALL_TIMEOUT_S": "1e400"}, r"AEGISPAY_CALL_TIMEOUT_S: number out of range"),
        ({"AEGISPAY_CALL_TIMEOUT_S": ""}, r"AEGISPAY_CALL_TIMEOUT_S: expected a number"),
        ({"AEGISPAY_RECOVERY": "perhaps"}, r"AEGISPAY_RECOVERY: expected true or false"),
        ({"AEGISPAY_ROUTING_ORDER": "nobody"}, r"AEGISPAY_ROUTING_ORDER: no gateway is named 'nobody'"),
        ({"AEGISPAY_STORE": "postgresql:u:hunter2@h/d"}, r"AEGISPAY_STORE: postgresql: must be followed"),
        ({"AEGISPAY_STORE": "sqlite://u:hunter2@h"}, r"AEGISPAY_STORE: a SQLite URL has neither"),
        ({"AEGISPAY_STORE": "postgresql://u:hunter2@h:port/d"}, r"AEGISPAY_STORE: .*host or port"),
        ({"AEGISPAY_STORE": "postgresql://u:hunter2@h"}, r"AEGISPAY_STORE: .*names no database"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_never_shown(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    assert re.search(said, refused(tmp_path, "", environ))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"x = '\xff'")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1024 * 1024 + 1))
    for file, said in (
        (tmp_path / "none.toml", "there is no such file"),
        (tmp_path, "cannot be read"),
        (binary, "byte 5 is not UTF-8"),
        (large, "is larger than"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            load(file, environ={})
        assert str(file) in str(caught.value)


def test_a_named_file_that_is_missing_is_never_replaced_by_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(environ={"AEGISPAY_CONFIG": str(tmp_path / "gone.toml")})


def test_without_a_gateway_nothing_is_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no gateway is configured\. Add a \[gateways\.NAME\] section"):
        build(load(write(tmp_path, ""), environ={}), environ={})


# --- the documents ------------------------------------------------------------------------------------------


def test_the_document_names_every_setting_with_its_default_and_every_variable() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    defaults = Settings()
    for name in Settings.__struct_fields__:
        value = getattr(defaults, name)
        if isinstance(value, RetryPolicy):
            assert f"`[settings.{name}]`" in text
            continue
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"`AEGISPAY_{name.upper()}`" in row
        assert row.endswith(f"| `{_toml(value)}` |"), row
    for name in RetryPolicy.__struct_fields__:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        pair = (getattr(defaults.inline_retry, name), getattr(defaults.recovery_retry, name))
        assert row.endswith(f"| `{_toml(pair[0])}` | `{_toml(pair[1])}` |"), row


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_the_example_file_is_valid_and_says_the_defaults() -> None:
    config = load(ROOT / "aegispay.toml.example", environ={})
    assert config.settings == Settings()
    registry = build_registry(config, environ={"STRIPE_API_KEY": SECRET})
    assert registry.names == ("stripe",)
