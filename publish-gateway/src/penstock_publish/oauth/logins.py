"""Logins with an account: one thread that hashes, with a bounded queue before it, so that nothing else waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock_publish.oauth.accounts import Account, AccountStore

__all__ = ["Logins"]


class Logins:
    """Checks passwords for the event loop."""

    def __init__(self, accounts: AccountStore, *, waiting_max: int, clock: Clock) -> None:
        self._accounts = accounts
        self._waiting_max = waiting_max
        self._clock = clock
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="penstock-login")

    async def enter(self, name: str, password: str, address: str) -> Account | None:
        """The account, or None; `too_many_requests` after too many failures, or where too many wait."""
        if self._waiting >= self._waiting_max:
            raise PenstockError("too_many_requests", "many people log in just now; try again", retry_after_s=2.0)
        self._waiting += 1
        work = partial(self._accounts.enter, name, password, address, now_s=self._clock.now_ms() / 1000)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def is_current(self, account: Account) -> bool:
        """See `AccountStore.is_current`. Blocking."""
        return self._accounts.is_current(account)

    async def close(self) -> None:
        """Finish what is under way."""
        await asyncio.to_thread(self._thread.shutdown)
