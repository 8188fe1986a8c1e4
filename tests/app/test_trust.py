"""Where a process gets the keys from with which it checks tokens: by its roles and by the issuer that is set."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.ports.clock import SystemClock
from penstock_app.services_settings import ServicesSettings
from penstock_app.settings import PenstockSettings
from penstock_app.trust import followed_issuer, remote_access
from penstock_publish.authority import open_authority
from penstock_publish.settings import AuthSettings

SERVICES = ServicesSettings(publish_url="http://publish.example:8080/")
CLOCK = SystemClock()


def made(**auth: object) -> PenstockSettings:
    return PenstockSettings(services=SERVICES, auth=AuthSettings.model_validate(auth))


def test_the_keys_of_publish_are_followed_by_processes_without_it_and_by_no_other():
    followed = followed_issuer(made(), ("ingest", "data"), clock=CLOCK)
    assert followed is not None and followed.keys_url == "http://publish.example:8080/oauth/jwks.json"
    assert followed_issuer(made(), ("ingest", "publish"), clock=CLOCK) is None


@pytest.mark.parametrize("roles", [("ingest",), ("publish",)])
def test_an_external_issuer_is_followed_by_every_process(roles: tuple[str, ...]):
    settings = made(issuer="https://id.example", jwks_url="https://id.example/keys")
    followed = followed_issuer(settings, roles, clock=CLOCK)
    assert followed is not None and followed.keys_url == "https://id.example/keys"
    assert isinstance(remote_access(settings, followed, public_url="http://x", clock=CLOCK), JwtAccess)


def test_keys_of_an_external_issuer_may_be_in_a_file_and_must_be_somewhere(tmp_path: Path):
    key = ECKey.generate_key("P-256", private=True)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    settings = made(issuer="https://id.example", jwks_file=tmp_path / "keys.json")
    assert followed_issuer(settings, ("ingest",), clock=CLOCK) is None
    assert isinstance(remote_access(settings, None, public_url="http://x", clock=CLOCK), JwtAccess)
    with pytest.raises(PenstockError, match="jwks_url"):
        remote_access(made(issuer="https://id.example"), None, public_url="http://x", clock=CLOCK)


async def test_the_publish_role_follows_an_external_issuer_and_issues_nothing_itself(tmp_path: Path):
    settings = made(issuer="https://id.example", jwks_url="https://id.example/keys")
    followed = followed_issuer(settings, ("publish",), clock=CLOCK)
    authority = await open_authority(
        tmp_path, settings.auth, clock=CLOCK, public_url="http://publish.example", followed=followed
    )
    assert authority.embedded is None
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["publish.db"], "neither keys nor a client are made"
    await authority.close()
