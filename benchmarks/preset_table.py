"""Mean and spread over seeds of the probes of several runs, as a table for the docs.

for rule in clapp clapp_s; do for seed in 0 1 2; do
  plasticity run --preset small --rule $rule --seed $seed --out runs/$rule-$seed --no-probe
  plasticity probe runs/$rule-$seed
  plasticity probe runs/$rule-$seed --protocol published
done; done
python benchmarks/preset_table.py runs/clapp-? runs/clapp_s-?
"""

import json
from collections import defaultdict
from pathlib import Path

import click
import numpy as np

from plasticity import runs


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Print a table for each probe protocol; spread is the standard deviation over seeds."""
    found = defaultdict(lambda: defaultdict(dict))
    layers: list[str] = []
    for folder in folders:
        options = runs.load(runs.checkpoint_of(folder), moments=False).options
        for path in sorted(folder.glob("probe-*.json")):
            result = json.loads(path.read_text())
            layers = result["layers"]
            table = found[result["protocol"]]
            table[options["rule"]][options["seed"]] = result["trained"]
            table["random"][options["seed"]] = result["random"]
    for protocol, table in found.items():
        print(f"\n| {protocol} | seeds | {' | '.join(layers)} |")
        print("|---|---|" + "---|" * len(layers))
        for name in sorted(table, key=lambda n: (n != "random", n)):
            values = 100 * np.array([table[name][seed] for seed in sorted(table[name])])
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(layers))
            cells = (f"{m:.1f} ± {s:.1f}" for m, s in zip(values.mean(axis=0), spread, strict=True))
            print(f"| {name} | {len(values)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
