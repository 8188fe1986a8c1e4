"""Who may read /livez, /readyz and /metrics without a token."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from penstock.http.listener import HttpSettings, is_near

INSIDE = (ip_network("172.30.91.0/24"), ip_network("fd00:91::/64"))


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", "172.30.91.7", "::ffff:172.30.91.7", "fd00:91::5"])
def test_loopback_and_the_named_networks_are_near(remote: str):
    assert is_near(remote, INSIDE)


@pytest.mark.parametrize("remote", ["172.30.92.7", "10.0.0.1", "::ffff:172.30.92.7", "fd00:92::5", "", "unix:"])
def test_everybody_else_is_not(remote: str):
    assert not is_near(remote, INSIDE)


def test_without_a_setting_only_loopback_is_near():
    assert HttpSettings().probe_networks == ()
    assert not is_near("172.30.91.7", ())
