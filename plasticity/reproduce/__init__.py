"""The papers' experiments, table by table: sweeps that are shipped, and ours beside theirs."""

from plasticity.reproduce.experiments import BUDGETS, Budget, budget, of_row, of_tables
from plasticity.reproduce.results import Result, caption, collect, markdown, write
from plasticity.reproduce.tables import TABLES, named

__all__ = [
    "BUDGETS",
    "TABLES",
    "Budget",
    "Result",
    "budget",
    "caption",
    "collect",
    "markdown",
    "named",
    "of_row",
    "of_tables",
    "write",
]
