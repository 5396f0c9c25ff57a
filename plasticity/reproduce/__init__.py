"""The paper's vision experiments, table by table: their runs, and ours beside the published."""

from plasticity.reproduce.experiments import BUDGETS, Budget, Experiment, budget, of_tables
from plasticity.reproduce.results import Result, caption, collect, markdown, write
from plasticity.reproduce.tables import TABLES, Row, Table, named
from plasticity.reproduce.workers import DONE, Work, carry_out_all, usual_jobs

__all__ = [
    "BUDGETS",
    "DONE",
    "TABLES",
    "Budget",
    "Experiment",
    "Result",
    "Row",
    "Table",
    "Work",
    "budget",
    "caption",
    "carry_out_all",
    "collect",
    "markdown",
    "named",
    "of_tables",
    "usual_jobs",
    "write",
]
