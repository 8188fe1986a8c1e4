"""The Kafka log on brokers that ask who comes: what is proved how, and what is said where the proof is not good."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from kafka_secured import KEY_PASSWORD, PASSWORD, USERNAME, SecuredBroker, secured_broker
from pydantic import SecretStr

from penstock.errors import LogUnavailable, PenstockError
from penstock.logs.kafka import KafkaLog
from penstock.logs.kafka_client import Cluster
from penstock.logs.kafka_security import security_config
from penstock.logs.settings import KafkaLogSettings, KafkaSecuritySettings, LogSettings
from penstock.testing.clock import ManualClock
from penstock.testing.log_contract_catalog import CatalogContract
from penstock.testing.log_contract_cycles import CycleContract
from penstock.testing.log_contract_streams import StreamContract
from penstock.testing.log_fixtures import (
    APP,
    PLENTY_BYTES,
    SETTINGS,
    LogFixtures,
    derived,
    name_of,
    new_batch,
    source,
)

__all__ = ["secured_broker"]  # the fixture

_numbers = count()


def settings_with(**security: object) -> LogSettings:
    kafka = KafkaLogSettings(timeout_s=3.0, open_wait_s=1.0, security=KafkaSecuritySettings.model_validate(security))
    return SETTINGS.model_copy(update={"kafka": kafka})


def of_user(broker: SecuredBroker, **changes: object) -> dict[str, object]:
    """What a user of `sasl_ssl` sets."""
    user = {"protocol": "sasl_ssl", "username": USERNAME, "password": PASSWORD, "ca_file": broker.ca_file}
    return user | changes


def of_certificate(broker: SecuredBroker, **changes: object) -> dict[str, object]:
    """What who has a certificate sets."""
    files = {"certificate_file": broker.client.certificate_file, "key_file": broker.encrypted_key_file}
    return {"protocol": "ssl", "ca_file": broker.ca_file, "key_password": KEY_PASSWORD} | files | changes


def url_of(broker: SecuredBroker, protocol: object) -> str:
    return f"kafka://{broker.listeners[str(protocol)]}/s{uuid4().hex[:6]}.{next(_numbers)}"


async def open_log(broker: SecuredBroker, security: dict[str, object]) -> KafkaLog:
    url = url_of(broker, security["protocol"])
    return await KafkaLog.open(url, clock=ManualClock(), settings=settings_with(**security))


async def refused(broker: SecuredBroker, security: dict[str, object], *, listener: str = "") -> str:
    """What is said to who opens a log so; a process ends with it instead of trying for ever."""
    url = url_of(broker, listener or security["protocol"])
    with pytest.raises(PenstockError) as error:
        await KafkaLog.open(url, clock=ManualClock(), settings=settings_with(**security))
    assert error.value.code == "bad_request"
    assert not error.value.retryable
    return error.value.detail


class TestKafkaLogOfAUserOverTls(LogFixtures):
    """The core of the contract; between them these clauses use every kind of client."""

    test_each_deployment_counts = CatalogContract.test_each_deployment_counts_the_app_and_the_catalog_up
    test_events_are_read_back = StreamContract.test_appended_events_are_read_back_as_they_were
    test_concurrent_appends = (
        StreamContract.test_concurrent_appends_all_arrive_once_and_each_caller_gets_its_own_position
    )
    test_an_append_wakes = StreamContract.test_an_append_wakes_those_who_wait_for_its_stream
    test_a_cycle_commits_all_together = (
        CycleContract.test_a_cycle_commits_outputs_positions_state_and_rejects_together
    )
    test_state_is_restored = CycleContract.test_state_is_restored_in_commit_order

    @pytest.fixture
    async def log(self, clock: ManualClock, secured_broker: SecuredBroker) -> AsyncIterator[KafkaLog]:
        settings = settings_with(**of_user(secured_broker))
        log = await KafkaLog.open(url_of(secured_broker, "sasl_ssl"), clock=clock, settings=settings)
        yield log
        await log.close()


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [("sasl_ssl", "PLAIN"), ("sasl_ssl", "SCRAM-SHA-256"), ("sasl_plaintext", "SCRAM-SHA-512")],
)
async def test_a_user_writes_and_reads(secured_broker: SecuredBroker, protocol: str, mechanism: str) -> None:
    ca_file = secured_broker.ca_file if protocol == "sasl_ssl" else None
    user = of_user(secured_broker, protocol=protocol, mechanism=mechanism, ca_file=ca_file)
    log = await open_log(secured_broker, user)
    await writes_and_reads(log)
    assert log.describe()["security"] == protocol
    assert PASSWORD not in str(log.describe())
    await log.close()


async def test_who_has_a_certificate_writes_and_reads(secured_broker: SecuredBroker) -> None:
    log = await open_log(secured_broker, of_certificate(secured_broker))
    await writes_and_reads(log)
    await log.close()


async def test_a_host_that_the_certificate_does_not_name_is_accepted_only_unchecked(
    secured_broker: SecuredBroker,
) -> None:
    url = url_of(secured_broker, "sasl_ssl").replace("127.0.0.1", "localhost")
    user = of_user(secured_broker)
    with pytest.raises(PenstockError, match="check_hostname"):
        await KafkaLog.open(url, clock=ManualClock(), settings=settings_with(**user))
    unchecked = settings_with(**user, check_hostname=False)
    await (await KafkaLog.open(url, clock=ManualClock(), settings=unchecked)).close()


async def test_a_wrong_password_is_named_and_not_said(secured_broker: SecuredBroker) -> None:
    wrong = "not the broker's"
    detail = await refused(secured_broker, of_user(secured_broker, password=wrong))
    assert "uthentication failed" in detail
    assert "set log.kafka.security.username, log.kafka.security.password (or PENSTOCK_LOG__KAFKA_" in detail
    assert wrong not in detail


async def test_who_signed_for_the_broker_is_asked_for(secured_broker: SecuredBroker) -> None:
    stranger = secured_broker.stranger.certificate_file
    detail = await refused(secured_broker, of_user(secured_broker, ca_file=stranger))
    assert "certificate verify failed" in detail
    assert f"set log.kafka.security.ca_file ({stranger})" in detail
    assert "(what this system trusts)" in await refused(secured_broker, of_user(secured_broker, ca_file=None))


async def test_a_certificate_that_the_broker_does_not_know_is_refused(secured_broker: SecuredBroker) -> None:
    stranger = secured_broker.stranger
    files = {"certificate_file": stranger.certificate_file, "key_file": stranger.key_file, "key_password": None}
    detail = await refused(secured_broker, of_certificate(secured_broker, **files))
    assert "set log.kafka.security.certificate_file and log.kafka.security.key_file to a certificate" in detail
    nothing = dict.fromkeys(files)
    assert "(none is set)" in await refused(secured_broker, of_certificate(secured_broker, **nothing))


async def test_a_user_where_the_broker_wants_none_is_told_of_mechanism_and_protocol(
    secured_broker: SecuredBroker,
) -> None:
    user = of_user(secured_broker, protocol="sasl_plaintext", ca_file=None)
    url = f"{secured_broker.url}/u"
    with pytest.raises(PenstockError, match=r"or log\.kafka\.security\.protocol to theirs"):
        await KafkaLog.open(url, clock=ManualClock(), settings=settings_with(**user))


async def test_another_protocol_than_the_brokers_is_asked_about_when_nobody_answers(
    secured_broker: SecuredBroker,
) -> None:
    plaintext = settings_with(timeout_s=1.0)
    with pytest.raises(LogUnavailable, match=r"do they speak 'plaintext' there \(log\.kafka\.security\.protocol"):
        await KafkaLog.open(url_of(secured_broker, "sasl_ssl"), clock=ManualClock(), settings=plaintext)


async def test_brokers_that_refuse_later_are_a_reason_to_wait_for(secured_broker: SecuredBroker) -> None:
    """Somebody changes the password on the brokers: a process that runs says so, and goes on once it is right."""
    log = await open_log(secured_broker, of_user(secured_broker))
    other = settings_with(**of_user(secured_broker, password="changed")).kafka  # one that is wrong
    log._cluster = Cluster(log._cluster.bootstrap, other)
    began_s = time.monotonic()
    with pytest.raises(LogUnavailable, match=r"Authentication failed.*log\.kafka\.security\.password"):
        await log.probe()
    assert time.monotonic() - began_s < 3.0, "before whoever asks gives up"
    await log.close()


@pytest.mark.parametrize(
    ("security", "said"),
    [
        ({"protocol": "sasl_ssl", "username": "u"}, "security.password: sasl_ssl needs it"),
        ({"protocol": "sasl_ssl", "password": "p"}, "security.username: sasl_ssl needs it"),
        ({"username": "u", "password": "p"}, "security.username: plaintext does not use it; set log.kafka"),
        ({"password": "p"}, "security.password: plaintext does not use it"),
        ({"ca_file": "ca.pem"}, "security.ca_file: plaintext does not use it"),
        ({"protocol": "ssl", "certificate_file": "c.pem"}, "security.key_file: certificate_file has a key"),
        ({"protocol": "ssl", "key_file": "k.pem"}, "security.certificate_file: key_file is the key of a"),
        ({"protocol": "ssl", "ca_file": "/nowhere/ca.pem"}, "security.ca_file: /nowhere/ca.pem: No such file"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_by_name(security: dict[str, object], said: str) -> None:
    with pytest.raises(PenstockError) as error:
        security_config(KafkaSecuritySettings.model_validate(security))
    assert error.value.code == "bad_request"
    assert said in error.value.detail


def test_files_that_are_no_certificates_are_refused_by_the_settings_name(
    secured_broker: SecuredBroker, tmp_path: Path
) -> None:
    no_pem = tmp_path / "ca.pem"
    no_pem.write_text("no certificate")
    for wrong, said in (
        ({"ca_file": no_pem}, r"log\.kafka\.security\.ca_file failed"),
        ({"key_password": "another"}, r"log\.kafka\.security\.key_file failed"),
        ({"key_file": secured_broker.stranger.key_file}, "key values mismatch"),
    ):
        settings = settings_with(**of_certificate(secured_broker, **wrong)).kafka
        with pytest.raises(PenstockError, match=said) as error:
            Cluster("127.0.0.1:9", settings)
        assert error.value.code == "bad_request"


def test_no_print_of_the_settings_shows_a_password() -> None:
    settings = settings_with(protocol="sasl_ssl", username="u", password="hush", key_password="quiet")
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "hush" not in text
        assert "quiet" not in text
    assert settings.kafka.security.password == SecretStr("hush")


async def writes_and_reads(log: KafkaLog) -> None:
    await log.put_app(APP, "", [source(), derived()], 0)
    await log.append([new_batch("arrivals", 1, name="known")])
    (batch,) = await log.read("arrivals", 0, 0, PLENTY_BYTES)
    assert name_of(batch) == "known"
    await log.probe()
    assert await log.beat("group", "member", 5.0) == ["member"]
