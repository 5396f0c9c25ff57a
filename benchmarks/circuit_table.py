"""The table of docs/circuit.md from the summaries of its runs.

python benchmarks/circuit_table.py runs/circuit/*
"""

import sys
from pathlib import Path

from plasticity import runs


def cells(values: list[float], digits: int) -> str:
    """Values of all layers in one cell."""
    return " ".join(f"{v:.{digits}f}" if abs(v) < 1000 else f"{v:.0e}" for v in values)


def main(folders: list[str]) -> None:
    """Print a row for each run."""
    print("| noise | burst probability | gates as H | open gates | loss | probe (%) |")
    print("|---|---|---|---|---|---|")
    for folder in folders:
        found = runs.read_summary(Path(folder))
        options, layers = found["options"], len(found["layers"])
        kind = f"{options['circuit_noise']:g} | {options['burst_probability']:g}"
        print(
            f"| {'H itself |' if options['gate'] != 'circuit' else kind} "
            f"| {cells(found.get('agreement_last', [1.0] * layers), 2)} "
            f"| {cells(found['open_gates_last'], 2)} | {cells(found['loss_last'], 2)} "
            f"| {cells([100 * a for a in found['probe']['trained']], 1)} |"
        )
    print(f"random weights: {cells([100 * a for a in found['probe']['random']], 1)}")


if __name__ == "__main__":
    main(sys.argv[1:])
