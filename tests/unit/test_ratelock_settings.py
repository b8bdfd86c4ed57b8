"""ratelock's settings: one list, three sources, one order."""

from dataclasses import fields
from pathlib import Path

import pytest

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.settings import SETTINGS, Settings
from jfe_cni.settings_list import flag_of


def test_a_flag_goes_before_the_environment_and_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ratelock.toml"
    file.write_text('listen = "file:1"\nkey = "file:file"\nstore = "sqlite:///file"\nbody_limit = 3\n')
    environment = {"RATELOCK_LISTEN": "environment:1", "RATELOCK_KEY": "file:environment"}
    read = SETTINGS.read({"listen": "flag:1", "key": None}, environment, file)
    assert (read.listen, read.key, read.store, read.body_limit) == (
        "flag:1",
        "file:environment",
        "sqlite:///file",
        3,
    )
    assert read.request_timeout == Settings().request_timeout


@pytest.mark.parametrize("each", fields(Settings), ids=lambda each: each.name)
def test_every_setting_says_what_it_is_and_why_and_reads_its_own_default(each: object) -> None:
    name, default, metadata = each.name, each.default, each.metadata  # type: ignore[attr-defined]
    assert metadata["what"]
    assert metadata["reason"]
    text = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    if name in ("tls_certificate", "tls_key", "client_ca"):
        return
    assert getattr(SETTINGS.read({name: text}, {}), name) == default
    assert getattr(SETTINGS.read({}, {SETTINGS.environment_name(name): text}), name) == default


def test_no_setting_has_a_name_that_kubernetes_or_the_verbs_use() -> None:
    taken = ("RATELOCK_PORT", "RATELOCK_SERVICE_", "RATELOCK_URL", "RATELOCK_TOKEN", "RATELOCK_CONFIG", "RATELOCK_CA")
    for each in fields(Settings):
        assert not SETTINGS.environment_name(each.name).startswith(taken)
    kubernetes = {"RATELOCK_PORT": "tcp://10.0.0.1:8750", "RATELOCK_SERVICE_HOST": "10.0.0.1"}
    assert SETTINGS.read({}, kubernetes) == Settings()


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        ({"body_limit": "many"}, "--body-limit"),
        ({"body_limit": "0"}, "--body-limit"),
        ({"tell_budget": "perhaps"}, "--tell-budget"),
        ({"trusted_absence": "-1"}, "--trusted-absence"),
        ({"trusted_absence": "nan"}, "--trusted-absence"),
        ({"log_format": "xml"}, "json, text"),
        ({"tls_key": "x"}, "together"),
        ({"client_ca": "x"}, "without TLS"),
    ],
    ids=str,
)
def test_what_is_unfit_is_refused_by_its_name(flags: dict[str, str], wrong: str) -> None:
    with pytest.raises(RequestError, match=wrong):
        SETTINGS.read(flags, {})


@pytest.mark.parametrize(
    "text",
    ["unknown = 1", "listen = 1", "listen", "tell_budget = 'perhaps'", "body_limit = inf", "request_timeout = nan"],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ratelock.toml").write_text(text)
    with pytest.raises(RequestError, match=r"ratelock\.toml"):
        SETTINGS.read({}, {}, tmp_path / "ratelock.toml")


def test_a_flag_and_a_variable_are_called_like_their_setting() -> None:
    assert (flag_of("tell_budget"), SETTINGS.environment_name("tell_budget")) == (
        "--tell-budget",
        "RATELOCK_TELL_BUDGET",
    )
