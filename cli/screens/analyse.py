"""What `plasticity analyse` shows and writes."""

from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import say
from plasticity.cli.screens.inspect import table

if TYPE_CHECKING:
    from plasticity.inspection.cpc_gradient import Analysis


def show(found: "Analysis") -> None:
    """The sums, the terms, what they need, and the signals."""
    from plasticity.inspection import cpc_gradient

    say(f"InfoNCE on {found.network}, step {found.step}: Eq. (9) to (12)")
    table(
        "Do the terms add up to the dW of the rule?",
        [
            {
                "layer": check.layer,
                "parameter": check.parameter,
                "relative error": check.error,
                "largest term / dW": check.cancelled,
                "verdict": "ok" if check.agrees else "DIFFERS",
            }
            for check in found.checks
        ],
    )
    table(
        "Terms; the true and the expected ones are the two of Eq. (9) (the norm of dW is 1, shares "
        "add up to 1)",
        [
            {
                "layer": part.layer,
                "parameter": part.parameter,
                "term": part.what,
                "norm": part.size,
                "share": part.share,
                "cosine without": part.without,
            }
            for part in found.terms
        ],
    )
    table(
        "What a synapse needs for them",
        [
            {"term": cpc_gradient.name_of(term), "needs": text}
            for term, text in cpc_gradient.TERMS.items()
        ],
    )
    table(
        "What a rule loses that cannot have it (the norm of dW is 1)",
        [
            {
                "layer": part.layer,
                "parameter": part.parameter,
                "without": part.what,
                "norm lost": part.size,
                "share lost": part.share,
                "cosine of the rest": part.without,
            }
            for part in found.needs
        ],
    )
    table(
        "What neurons and synapses would have to tell apart",
        [
            {
                "layer": s.layer,
                "pi true": s.pi_true,
                "samples kept": s.samples,
                "that count": s.effective,
                "2nd / 1st quantity": s.second_size,
                "their cosine": s.second_cosine,
                "W_pred^T, other": s.backward_cosine,
                "CLAPP-s weight": s.clapp_weight,
                "W_pred": s.clapp_W_pred,
            }
            for s in found.signals
        ],
    )
    say(
        "A neuron's first quantity is its activity z, the second z true - sum pi z. "
        f"'W_pred^T, other': cosine of what {found.signals[0].backward} sends back with what the "
        "transpose of W_pred sends. The last two: cosine of CLAPP-s's dW on the same samples.",
    )
    worst = max(found.checks, key=lambda check: check.rounding)
    held = sum(check.agrees for check in found.checks)
    say(
        f"{held} of {len(found.checks)} sums are the dW of the rule. The largest difference is "
        f"{worst.rounding:.1e} of the largest entry of dW or a term "
        f"({worst.layer}.{worst.parameter}), tolerance {worst.tolerance:g}.",
    )


def write(
    found: "Analysis", json_path: Path | None, csv_path: Path | None, figure_path: Path | None
) -> None:
    """The tables and the figure to files."""
    from plasticity import figures, runs
    from plasticity.inspection.tables import write_csv

    if json_path:
        runs.write_json(json_path, found.as_dict())
    if csv_path:
        rows = found.long_table()
        write_csv(csv_path, [{name: [row[name] for row in rows] for name in rows[0]}])
    if figure_path:
        figures.save(figures.cpc_terms(found), figure_path)
    for path in filter(None, (json_path, csv_path, figure_path)):
        say(f"Written to {path}")
