"""Tables of what was measured over seeds: as text, CSV and LaTeX."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """What was measured, such as accuracies in percent: one value for each seed, None for a seed
    that has not been run.
    """

    by_seed: tuple[float | None, ...]
    digits: int = 1

    @property
    def values(self) -> list[float]:
        return [value for value in self.by_seed if value is not None]

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.values)) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, where there are two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def text(self, plus_minus: str = "±") -> str:
        """Mean and spread, with so many digits each."""
        if self.mean is None:
            return "-"
        told = f".{self.digits}f"
        spread = "" if self.spread is None else f" {plus_minus} {self.spread:{told}}"
        return f"{self.mean:{told}}{spread}"


def markdown(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table as text, which Markdown reads as a table; its first column stands to the left."""
    rows = [[cell.replace("|", "\\|") for cell in cells] for cells in (heads, *body)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    lines = [
        "| "
        + " | ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])
        + " |"
        for cells in (rows[0], rule, *rows[1:])
    ]
    return "\n".join([*lines, ""])


def comma_separated(heads: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """A table as CSV; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    for cells in body:
        writer.writerow("" if cell is None else cell for cell in cells)
    return out.getvalue()


ESCAPED = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SIGNS = {"±": r"$\pm$", "<": "$<$", ">": "$>$", "|": r"\textbar{}"}


def tex(text: str) -> str:
    """A text as LaTeX prints it."""
    return "".join({**ESCAPED, **SIGNS}.get(c, c) for c in text.replace("\\", "/"))


def latex(name: str, caption: str, heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A `table` environment; it wants `\\usepackage{booktabs}`."""
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in name)
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{tex(caption)}}}",
        f"  \\label{{tab:{label}}}",
        r"  \begin{tabular}{l" + "r" * (len(heads) - 1) + "}",
        r"    \toprule",
        "    " + " & ".join(map(tex, heads)) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(map(tex, cells)) + r" \\" for cells in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])
