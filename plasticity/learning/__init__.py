"""Learning: from inputs to the dW of every module, and to the weights."""

from plasticity.learning.losses import Loss, Modules, Rules, each, keys, losses_of, named
from plasticity.learning.optimisers import Optimiser, Pace, Schedule
from plasticity.learning.reading import Reading, post_factor, read_map, read_space
from plasticity.learning.step import (
    NETWORKS_OWN,
    Report,
    Update,
    draws,
    layerwise,
    needed,
    prepare,
    rules_own,
    updates,
)
from plasticity.learning.synapses import constrain, constrains, kept_by_synapses, settles, state_of
from plasticity.learning.watched import Scored, Watched
from plasticity.network import Seen

__all__ = [
    "NETWORKS_OWN",
    "Loss",
    "Modules",
    "Optimiser",
    "Pace",
    "Reading",
    "Report",
    "Rules",
    "Schedule",
    "Scored",
    "Seen",
    "Update",
    "Watched",
    "constrain",
    "constrains",
    "draws",
    "each",
    "kept_by_synapses",
    "keys",
    "layerwise",
    "losses_of",
    "named",
    "needed",
    "post_factor",
    "prepare",
    "read_map",
    "read_space",
    "rules_own",
    "settles",
    "state_of",
    "updates",
]
