"""Settings from files: what containers get as secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import PenstockError
from penstock_app.secret_files import read_secret_files
from penstock_app.settings import PenstockSettings, load_settings


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "store-url"
    path.write_text("postgresql://penstock:s3cret@db/penstock\n")
    return path


def test_a_setting_is_read_from_the_file_that_its_variable_names(secret: Path):
    (secret.parent / "issuer").write_text("https://id.example.org\n")
    environment = {
        "PENSTOCK_STORE_URL_FILE": str(secret),
        "PENSTOCK_AUTH__ISSUER_FILE": str(secret.parent / "issuer"),
        "HOME": "/",
    }
    found = read_secret_files(environment, PenstockSettings)
    assert found.values == {
        "store_url": "postgresql://penstock:s3cret@db/penstock",
        "auth": {"issuer": "https://id.example.org"},
    }
    assert found.names == {"PENSTOCK_STORE_URL_FILE", "PENSTOCK_AUTH__ISSUER_FILE"}


def test_a_setting_that_is_itself_a_file_is_left_alone(secret: Path):
    assert read_secret_files({"PENSTOCK_AUTH__JWKS_FILE": str(secret)}, PenstockSettings).names == set()


def test_names_of_others_are_left_alone(secret: Path):
    assert read_secret_files({"PENSTOCK_TEST_FILE": str(secret)}, PenstockSettings).names == set()


def test_a_password_from_a_file_beside_a_name_from_a_variable_is_shown_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "password").write_text("hush\n")
    monkeypatch.setenv("PENSTOCK_LOG__KAFKA__SECURITY__USERNAME", "penstock")
    monkeypatch.setenv("PENSTOCK_LOG__KAFKA__SECURITY__PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("PENSTOCK_LOG__KAFKA__SECURITY__CA_FILE", str(tmp_path / "ca.pem"))
    settings = load_settings(None, {})
    security = settings.log.kafka.security
    assert (security.username, security.ca_file) == ("penstock", tmp_path / "ca.pem")
    assert security.password is not None
    assert security.password.get_secret_value() == "hush"
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PENSTOCK_STORE_URL_FILE": "/nowhere/at-all"}, "PENSTOCK_STORE_URL_FILE=/nowhere/at-all: No such file"),
        ({"PENSTOCK_LOG_URL": "kafka://b", "PENSTOCK_LOG_URL_FILE": "/x"}, "both PENSTOCK_LOG_URL and PENSTOCK_LOG_"),
    ],
)
def test_a_missing_file_and_a_double_setting_are_refused(environment: dict[str, str], said: str):
    with pytest.raises(PenstockError) as refused:
        read_secret_files(environment, PenstockSettings)
    assert refused.value.code == "bad_request"
    assert said in refused.value.detail
