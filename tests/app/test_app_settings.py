"""Settings: flags over environment over file over default; a wrong key or value is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import PenstockError
from penstock_app.settings import load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text('log_level = "warning"\n[http]\nport = 1001\nhost = "127.0.0.2"\ndrain_s = 3.0\n')
    return path


def test_flags_win_over_environment_over_file_over_default(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENSTOCK_HTTP__PORT", "1002")
    monkeypatch.setenv("PENSTOCK_HTTP__HOST", "127.0.0.3")
    http = load_settings(file, {"data": None, "http": {"port": 1003, "host": None}}).http
    assert (http.port, http.host, http.drain_s, http.insecure_http) == (1003, "127.0.0.3", 3.0, False)
    assert load_settings(file, {}).log_level == "warning"
    assert load_settings(None, {}).log_level == "info"


def refusal(config: Path | None) -> str:
    with pytest.raises(PenstockError) as refused:
        load_settings(config, {})
    assert refused.value.code == "bad_request"
    return refused.value.detail


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "there is no setting prot"),
        ("[http]\nprot = 1", "there is no setting http.prot, did you mean http.port?"),
        ("[http]\nport = 70000", "setting http.port: Input should be less than or equal to 65535"),
        ("[http]\ndrain_s = 0", "setting http.drain_s"),
        ('log_level = "loud"', "setting log_level"),
        ("[http", "--config"),
    ],
)
def test_a_wrong_key_or_value_of_the_file_is_named(text: str, said: str, tmp_path: Path):
    (tmp_path / "wrong.toml").write_text(text)
    assert said in refusal(tmp_path / "wrong.toml")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PENSTOCK_HTTP__PROT", "1", "there is no setting http.prot"),
        ("PENSTOCK_HTPP__PORT", "1", "there is no setting htpp"),
        ("PENSTOCK_HTTP__PORT", "x", "setting http.port"),
        ("PENSTOCK_HTTP", "x", "environment"),
        ("PENSTOCK_LOG_LEVEL", "loud", "setting log_level"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    assert said in refusal(None)


def test_a_variable_reaches_a_setting_below_a_section(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENSTOCK_DATA_SERVICE__APPLIER__WAIT_S", "0.5")
    assert load_settings(None, {}).data_service.applier.wait_s == 0.5
    monkeypatch.setenv("PENSTOCK_DATA_SERVICE__APPLIER__WAIT", "0.5")
    assert "data_service.applier.wait" in refusal(None)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    assert "nofile.toml" in refusal(tmp_path / "nofile.toml")


def test_a_variable_may_name_a_file_that_holds_the_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "port").write_text("1004\n")
    (tmp_path / "url").write_text("sqlite:///elsewhere\n")
    monkeypatch.setenv("PENSTOCK_HTTP__PORT_FILE", str(tmp_path / "port"))
    monkeypatch.setenv("PENSTOCK_STORE_URL_FILE", str(tmp_path / "url"))
    settings = load_settings(None, {})
    assert (settings.http.port, settings.store_address) == (1004, "sqlite:///elsewhere")
    assert load_settings(None, {"http": {"port": 1005}}).http.port == 1005
    monkeypatch.setenv("PENSTOCK_HTTP__PROT_FILE", str(tmp_path / "port"))
    assert "there is no setting http.prot_file" in refusal(None)


def test_a_role_may_have_several_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "p.toml").write_text('[services]\nprocessor_url = ["http://a:1/", "http://b:2"]\n')
    services = load_settings(tmp_path / "p.toml", {}).services
    assert services.urls_of("processor") == ("http://a:1", "http://b:2")
    assert (services.urls_of("data"), services.url_of("data")) == (
        ("http://127.0.0.1:8083",),
        "http://127.0.0.1:8083",
    )
    monkeypatch.setenv("PENSTOCK_SERVICES__PROCESSOR_URL", "http://c:3 , http://d:4/")
    assert load_settings(tmp_path / "p.toml", {}).services.urls_of("processor") == ("http://c:3", "http://d:4")
    monkeypatch.setenv("PENSTOCK_SERVICES__DATA_URL", " ,")
    assert "names no address" in refusal(None)
