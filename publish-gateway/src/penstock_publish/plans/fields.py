"""What a reply says of limits: `RateLimit` and `RateLimit-Policy`, and the error of who is over one. Pure.

After draft-ietf-httpapi-ratelimit-headers-11: lists of strings with parameters (RFC 9651). `q` units in `w` seconds,
`qu` what a unit is where it is no request; `r` units remain, `t` seconds until all of them are there again, or, in a
refusal, until it is worth trying (the same as `Retry-After`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from penstock.errors import PenstockError
from penstock_publish.plans.meter import Hold, Standing

__all__ = ["LIMIT_FIELD", "POLICY_FIELD", "QuotaExceeded", "limit_fields"]

LIMIT_FIELD = "RateLimit"
POLICY_FIELD = "RateLimit-Policy"
_UNITS = {"bytes": ';qu="content-bytes"', "messages": ';qu="messages"'}
#: `Retry-After` where nobody knows when a connection is closed.
_CONNECTION_RETRY_S = 5.0


class QuotaExceeded(PenstockError):
    """`quota_exceeded`: over the limit that `hold` names; `retry_after_s` says when it is worth trying again."""

    def __init__(self, hold: Hold, plan_name: str) -> None:
        what = "today's quota is used up" if hold.for_today else "too much at once"
        wait_s = _CONNECTION_RETRY_S if hold.limit == "connections" else hold.wait_s
        super().__init__(
            "quota_exceeded",
            f"{what}: {hold.limit} of the plan '{plan_name}'; wait, or take a larger plan (GET /v1/plans)",
            retry_after_s=wait_s,
            extra={"limit": hold.limit, "plan": plan_name, "violated-policies": [hold.limit]},
        )
        self.hold = hold


def limit_fields(standings: Iterable[Standing], refused: QuotaExceeded | None = None) -> dict[str, str]:
    """Header fields of a reply; none for a plan without such limits."""
    policies, limits = [], []
    for one in standings:
        reset_s = one.reset_s
        if refused is not None and refused.hold.limit == one.limit:
            reset_s = max(1.0, refused.hold.wait_s)
        unit = _UNITS.get(one.limit.partition("_")[0], "")
        policies.append(f'"{one.limit}";q={one.quota}{unit};w={one.window_s}')
        limits.append(f'"{one.limit}";r={one.remaining};t={math.ceil(reset_s)}')
    return {POLICY_FIELD: ", ".join(policies), LIMIT_FIELD: ", ".join(limits)} if policies else {}
