"""Which factors made an update: gate, dendritic signal, post and pre, event by event.

    from plasticity import inspection

    state = inspection.open_run("runs/mine")
    step = inspection.look(state, layer=4)
    inspection.inspect(step, "weight", (3, 1, 0, 2))  # one synapse
    inspection.inspect_layer(step)  # the whole layer
    inspection.read("runs/mine").trace("conv4", (3, 1, 0, 2))  # over time, if it was recorded

All show themselves in a notebook, and have tables that `pandas.DataFrame` takes. The factors come
from the functions that training uses: `Rule.roles`, `kernels.post_factor` and the watch on
`learning.updates`. Nothing here computes an update of its own.
"""

from plasticity.inspection.beside import compare_rules, over_training
from plasticity.inspection.layer import LayerView, alignment, inspect_layer
from plasticity.inspection.recording import Recorder, open_recorder
from plasticity.inspection.records import Recording, open_record, read
from plasticity.inspection.step import Step, fresh, look, open_run
from plasticity.inspection.synapse import Synapse, inspect

__all__ = [
    "LayerView",
    "Recorder",
    "Recording",
    "Step",
    "Synapse",
    "alignment",
    "compare_rules",
    "fresh",
    "inspect",
    "inspect_layer",
    "look",
    "open_record",
    "open_recorder",
    "open_run",
    "over_training",
    "read",
]
