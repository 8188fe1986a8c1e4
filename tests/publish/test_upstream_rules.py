"""What upstreams decide without one: where a path leads, which settings will do, and which secrets are missing."""

from __future__ import annotations

import asyncio

import pytest
from publish.conftest import running_gateway
from pydantic import ValidationError

from penstock.errors import PenstockError
from penstock.role import Ports
from penstock_publish.service import build
from penstock_publish.settings import PublishSettings
from penstock_publish.upstreams.crossing import target_of

SCOPE = "prices:read"
ESCAPES = [
    "/../x", "/..", "/a/../../x", "/%2e%2e/x", "/%2E./x", "/%252e%252e/x", "/%25252e%25252e/x", "/a%2f..%2fx",
    "/a%2fb", "/a%5c..%5cx", "/..\\x", "/..;/x", "/%2e%2e;a=b/x", "/a%00b", "/a%0d%0aX-Evil:%201", "/./x", "/a%252fb",
    "/%25252525252e",
    "@evil.example/", ":80/x", "/a%zz", "/a\u00e9",
]  # fmt: skip


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_path_leads_out_of_the_upstream(escape):
    with pytest.raises(PenstockError) as refusal:
        target_of("http://prices.example/base", "prices", "/v1/upstreams/prices" + escape)
    assert refusal.value.code == "bad_request"


def test_a_plain_path_stays_as_it_is_and_our_own_parameters_stay_here():
    for rest in ("", "/", "/a/b", "/a%20b", "/a//b", "/a;v=1", "/...", "/a..b", "?q=..%2f..", "/x?a=b?c&d"):
        target = target_of("http://prices.example/base/", "prices", "/v1/upstreams/prices" + rest)
        assert str(target) == "http://prices.example/base" + rest
    target = target_of("ws://h/b", "t", "/v1/upstreams/t?ticket=secret&a=1&auth=x&t%69cket=secret")
    assert str(target) == "ws://h/b?a=1"


@pytest.mark.parametrize(
    "wrong",
    [{"url": "ftp://x/"}, {"url": "http://u:p@x/"}, {"url": "http://x/?a=1"}, {"kind": "websocket"}, {"name": "A/B"},
     {"headers": {"Host": "x"}}, {"headers": {"Bad Name": "x"}}, {"secret_headers": {"X-K": {}}}, {"methods": []},
     {"pass_token": True, "headers": {"authorization": "x"}}, {"methods": ["CONNECT"]},
     {"headers": {"X-A": "a\r\nB: c"}}],
)  # fmt: skip
def test_wrong_settings_are_refused_at_the_start(wrong):
    fine = {"name": "prices", "kind": "rest", "url": "http://x/base", "scope": SCOPE}
    assert PublishSettings.model_validate({"upstreams": [fine]}).upstreams[0].methods == ("GET", "HEAD")
    with pytest.raises(ValidationError):
        PublishSettings.model_validate({"upstreams": [{**fine, **wrong}]})
    with pytest.raises(ValidationError, match="same name"):
        PublishSettings.model_validate({"upstreams": [fine, fine]})


@pytest.mark.parametrize(
    ("secret", "place"),
    [
        ({"env": "NO_SUCH_SECRET"}, "the environment variable NO_SUCH_SECRET"),
        ({"file": "/no/such"}, "the file /no/such"),
    ],
)
async def test_a_secret_that_is_not_there_keeps_the_gateway_from_starting(tmp_path, clock, secret, place):
    upstreams = [{"name": "prices", "kind": "rest", "url": "http://127.0.0.1:1", "scope": SCOPE,
                  "secret_headers": {"X-Api-Key": secret}}]  # fmt: skip
    async with running_gateway(tmp_path, clock) as gateway:
        ports = Ports(gateway.log, gateway.store, clock, gateway.authority.access)
        role = build(PublishSettings.model_validate({"upstreams": upstreams}), ports, authority=gateway.authority)
        with pytest.raises(PenstockError, match=f"'prices'.*X-Api-Key.*{place}.*start again"):
            await asyncio.wait_for(role.run(asyncio.Event()), 5)
