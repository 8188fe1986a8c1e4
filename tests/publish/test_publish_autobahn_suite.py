"""The WebSocket edge and forwarded sockets under the real Autobahn suite; `make autobahn` runs every case."""

import pytest
from publish.autobahn_suite import EDGE, INFORMATIONAL, NOT_STRICT_FORWARDED, missing, run_cases, unexpected
from publish.websocket_echo import echo_edge, forwarded_echo

#: How many cases each pattern stands for. Of size, pace and compression some that are done within a second.
CASES = {
    "1.*": 16, "2.*": 11, "3.*": 7, "4.*": 10, "5.*": 20, "6.*": 145, "7.*": 37, "10.*": 1,
    "9.1.2": 1, "9.2.3": 1, "9.4.9": 1, "12.1.3": 1, "12.2.3": 1, "13.2.2": 1, "13.3.3": 1, "13.5.3": 1, "13.7.3": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def suite(need):
    need("autobahn", (lacking := missing()) is None, lacking or "")


async def test_every_case_passes_strictly_or_is_one_that_the_suite_leaves_open(suite, tmp_path):
    async with echo_edge(EDGE) as port:
        outcomes = await run_cases(port, list(CASES), tmp_path, within_s=120)
    assert len(outcomes) == sum(CASES.values())
    assert unexpected(outcomes) == {}
    assert {number for number, outcome in outcomes.items() if not outcome.passed} == set(INFORMATIONAL)


async def test_forwarded_sockets_fail_no_case_of_fragments_and_closing(suite, tmp_path):
    async with forwarded_echo(EDGE) as port:
        outcomes = await run_cases(port, ["5.*", "7.*"], tmp_path, within_s=120)
    assert len(outcomes) == CASES["5.*"] + CASES["7.*"]
    assert unexpected(outcomes, NOT_STRICT_FORWARDED) == {}
