"""Figures, drawn without a display: functions of arrays that return a `matplotlib` Figure.

`save` writes one as PNG, SVG or PDF. All share one style: readable at the width of a column, axes
labelled with units, colours that are distinct also to the colour-blind.
"""

from plasticity.figures.display import matplotlib  # before anything else imports it

# isort: split
from matplotlib.figure import Figure

from plasticity.figures.beside import (
    measures_of_runs,
    probes_of_runs,
    runs_beside,
    updates_beside,
)
from plasticity.figures.events import gates, hinge, predictions
from plasticity.figures.film import Response, clips
from plasticity.figures.images import embeddings, kernel_grid, kernels, mosaic, patches
from plasticity.figures.published import (
    beside_published,
    losses_of_splits,
    over_layers,
    over_values,
)
from plasticity.figures.run import (
    kept_probes,
    losses,
    losses_of_runs,
    measures,
    probe_bars,
    spectrum,
)
from plasticity.figures.sound import confusions, kind_of, traces, utterance
from plasticity.figures.style import check_suffix, save, save_both
from plasticity.figures.terms import cpc_terms
from plasticity.figures.updates import gate_history, kernel, layer_update, trace

__all__ = [
    "Figure",
    "Response",
    "beside_published",
    "check_suffix",
    "clips",
    "confusions",
    "cpc_terms",
    "embeddings",
    "gate_history",
    "gates",
    "hinge",
    "kept_probes",
    "kernel",
    "kernel_grid",
    "kernels",
    "kind_of",
    "layer_update",
    "losses",
    "losses_of_runs",
    "losses_of_splits",
    "matplotlib",
    "measures",
    "measures_of_runs",
    "mosaic",
    "over_layers",
    "over_values",
    "patches",
    "predictions",
    "probe_bars",
    "probes_of_runs",
    "runs_beside",
    "save",
    "save_both",
    "spectrum",
    "trace",
    "traces",
    "updates_beside",
    "utterance",
]
