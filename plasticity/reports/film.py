"""Figures of a run on film: the clips that excite neurons."""

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from plasticity import figures
from plasticity.arrays import to_host
from plasticity.device import prefetched
from plasticity.errors import MissingError
from plasticity.figures import Figure
from plasticity.inspection import views
from plasticity.network import Parameters
from plasticity.probes.encodings import dtype_of
from plasticity.stimuli import Film

if TYPE_CHECKING:
    from plasticity.reports.plots import Look

ROWS_FOR_ALL, ROWS_FOR_ONE = 1, 4  # neurons of a layer


def clips(look: "Look") -> Figure:
    """For neurons of each layer the test clip that excites them most, and their answer to it."""
    stimulus, indices = look.test
    who, weights = list(look.sets.items())[-1]
    rows = ROWS_FOR_ALL if look.layer is None else ROWS_FOR_ONE
    found = []
    for layer in look.layers:
        survey = look.surveys[who][layer]
        chosen = views.neurons([survey], rows, look.seed)
        place, _, _ = views.favourites(survey, chosen, 1)
        found += [
            response(look, weights, stimulus, layer, int(neuron), int(indices[i]))
            for neuron, i in zip(chosen, place[:, 0], strict=True)
        ]
    if not found:
        raise MissingError("no neuron answers any clip: there is nothing to show")
    return figures.clips(found, f"{look.title}, {who}")


def response(
    look: "Look", weights: Parameters, stimulus: Film, layer: int, neuron: int, clip: int
) -> figures.Response:
    """What a neuron of a layer answers to a clip of the set."""
    network = look.state.network
    (batch,) = prefetched(stimulus.in_order(np.array([clip]), 1), look.state.device)
    x = stimulus.inputs(batch, dtype_of(weights))
    y, _ = next(islice(network.maps(x, weights), layer, None))
    answer = to_host(y[0, ..., neuron])
    flat = answer.reshape(len(answer), -1)
    (begin, step, size), *space = views.windows(network, layer)
    best = np.stack(np.unravel_index(flat.argmax(axis=1), answer.shape[1:]), axis=1)
    classes, labels = stimulus.source.classes, stimulus.source.labels
    label = "" if labels is None else f"\n{classes[labels[clip]]}"
    return figures.Response(
        f"{look.names[layer]}\nneuron {neuron}{label}",
        to_host(batch.pixels[0]),
        begin + step * np.arange(len(answer)) + (size - 1) / 2,
        flat.max(axis=1),
        flat.mean(axis=1),
        np.array([of[0] for of in space]) + best * [of[1] for of in space],
        tuple(of[2] for of in space),
    )
