"""The contract of the log port as tests. An adapter's test file subclasses `LogContract` and says how to open it."""

from __future__ import annotations

from penstock.testing.log_contract_catalog import CatalogContract
from penstock.testing.log_contract_cycles import CycleContract
from penstock.testing.log_contract_keeping import KeepingContract
from penstock.testing.log_contract_space import SpaceContract
from penstock.testing.log_contract_streams import StreamContract
from penstock.testing.log_contract_tasks import TaskContract

__all__ = ["ExpiringLogContract", "LogContract"]


class ExpiringLogContract(StreamContract, CatalogContract, CycleContract, TaskContract, KeepingContract):
    """Every clause for a log whose events expire by themselves (no `retention_holds`), and that others may fill."""


class LogContract(ExpiringLogContract, SpaceContract):
    """Subclass it, override the fixture `log`, and pytest runs every clause against your adapter."""
