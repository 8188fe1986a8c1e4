"""Where a process gets the keys from with which it checks tokens: by its roles and by the issuer that is set."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.ports.clock import SystemClock
from penstock_app.services_settings import ServicesSettings
from penstock_app.settings import PenstockSettings, load_settings
from penstock_app.trust import external_issuers, followed_issuer, remote_access
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


def test_an_issuer_alone_is_asked_for_its_metadata_by_https_only():
    followed = followed_issuer(made(issuer="https://id.example"), ("ingest",), clock=CLOCK)
    assert followed is not None and followed.keys_url == "https://id.example"
    for wrong in ({"issuer": "http://id.example"}, {"issuer": "https://i.example", "jwks_url": "http://i.example/k"}):
        with pytest.raises(PenstockError, match="not https"):
            followed_issuer(made(**wrong), ("ingest",), clock=CLOCK)


def test_further_issuers_are_trusted_beside_the_first_and_followed_by_every_process():
    settings = made(issuers=[{"issuer": "https://a.example"}, {"issuer": "https://b.example/realm", "name": "b"}])
    followed = followed_issuer(settings, ("ingest",), clock=CLOCK)
    access = remote_access(settings, followed, public_url="http://publish.example", clock=CLOCK)
    opened = external_issuers(settings, clock=CLOCK)
    access.trust([one.trusted for one in opened])
    assert access.issuers.names == ("http://publish.example", "https://a.example", "https://b.example/realm")
    assert [role.name for one in opened for role in one.roles] == [
        "keys of https://a.example", "keys of https://b.example/realm",
    ]  # fmt: skip
    assert all(check.ok for one in opened for role in one.roles for check in role.ready())


async def test_an_issuer_that_is_listed_stands_instead_of_the_embedded_one_by_its_own_rules(
    tmp_path: Path,
):
    rules = {"issuer": "https://id.example/realm", "name": "id", "algorithms": ["RS256"], "profile": "jwt"}
    settings = made(issuer="https://id.example/realm", issuers=[rules])
    assert followed_issuer(settings, ("publish",), clock=CLOCK) is None
    authority = await open_authority(tmp_path, settings.auth, clock=CLOCK, public_url="http://publish.example")
    assert authority.embedded is None
    for access in (authority.access, remote_access(settings, None, public_url="http://publish.example", clock=CLOCK)):
        [opened] = external_issuers(settings, clock=CLOCK)
        access.trust([opened.trusted])
        assert access.issuers.names == ("https://id.example/realm",)
        assert [check.ok for role in opened.roles for check in role.ready()] == [False], "not ready without its keys"
    await authority.close()
    with pytest.raises(ValueError, match=r"entry in auth\.issuers"):
        made(issuer="https://id.example/realm", issuers=[rules], jwks_url="https://id.example/keys")


def test_two_issuers_that_are_the_same_or_are_both_to_be_asked_are_refused(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    asked = {"client_id": "rs", "client_secret_env": "SECRET"}
    for wrong, names in [
        ([{"issuer": "https://a.example"}] * 2, "listed twice"),
        ([{"issuer": f"https://{n}.example", "introspection": asked} for n in "ab"], "only one issuer"),
    ]:
        settings = made(issuers=wrong)
        access = remote_access(settings, followed_issuer(settings, ("data",), clock=CLOCK), public_url="http://x",
                               clock=CLOCK)  # fmt: skip
        with pytest.raises(PenstockError, match=names):
            access.trust([one.trusted for one in external_issuers(settings, clock=CLOCK)])


def test_the_list_of_issuers_can_be_a_variable_and_unknown_keys_are_named(monkeypatch):
    monkeypatch.setenv("PENSTOCK_AUTH__ISSUERS", '[{"issuer": "https://a.example", "algorithms": ["RS256"]}]')
    assert load_settings(None, {}).auth.issuers[0].algorithms == ("RS256",)
    for wrong in (
        '[{"issuer": "https://a.example", "algorithm": "RS256"}]',
        '[{"issuer": "x", "algorithms": ["HS256"]}]',
    ):
        monkeypatch.setenv("PENSTOCK_AUTH__ISSUERS", wrong)
        with pytest.raises(PenstockError, match=r"auth\.issuers\.0\.algorithm"):
            load_settings(None, {})


def test_the_settings_in_the_documentation_are_taken(repository: Path, tmp_path: Path):
    blocks = re.findall(r"```toml\n(.*?)```", (repository / "docs" / "tokens.md").read_text(), re.DOTALL)
    (tmp_path / "introspection").write_text("secret")
    for number, block in enumerate(blocks):
        config = tmp_path / f"{number}.toml"
        config.write_text(block.replace("/run/secrets", str(tmp_path)))
        [opened] = external_issuers(load_settings(config, {}), clock=CLOCK)
        assert opened.trusted.issuer.startswith("https://")
    assert len(blocks) == 5


@pytest.mark.parametrize("changes", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "ES512"}])
def test_a_key_in_a_file_that_is_for_something_else_is_not_taken(tmp_path: Path, changes: dict[str, object]):
    key = ECKey.generate_key("P-256", private=True).as_dict(private=False)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{**key, **changes}]}))
    settings = made(issuer="https://id.example", jwks_file=tmp_path / "keys.json")
    with pytest.raises(PenstockError, match="no key for ES256"):
        remote_access(settings, None, public_url="http://x", clock=CLOCK)


@pytest.mark.parametrize(
    "issuers",
    [
        [{"issuer": "https://id.example/realms/a"}, {"issuer": "https://id.example/realms/b"}],
        [{"issuer": "https://a.example", "name": "x"}, {"issuer": "https://b.example", "name": "x"}],
        [{"issuer": "https://a.example", "name": "account"}],
    ],
)
def test_two_issuers_of_one_name_are_refused_since_their_subjects_would_be_the_same(issuers: list[dict[str, str]]):
    with pytest.raises(PenstockError, match=r"auth\.issuers: the name") as refused:
        external_issuers(made(issuers=issuers), clock=CLOCK)
    assert refused.value.code == "bad_request"
