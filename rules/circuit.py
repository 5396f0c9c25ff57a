"""The surprise circuit: how an area of the brain could compute its gate from bursts."""

import numpy as np

from plasticity import seeds
from plasticity.arrays import Array, array_module

BLOCK = 2**20  # products of an event and a neuron that are held at a time


def pathways(
    z: Array,
    prediction: Array,
    in_z: Array,
    in_prediction: Array,
    *,
    probability: float = 1.0,
    key: int = 0,
) -> tuple[Array, Array]:
    """What ON and OFF bursts sum to in every event, `(E,)` each, not negative.

    A neuron bursts where its dendritic prediction coincides with its activity, as strongly as
    their product (Larkum et al. 1999). Where the two have the same sign it does so in the ON
    pathway, otherwise in OFF:

        b_i = B_i z_i z^_i / p,     ON = sum_i [b_i]_+,     OFF = sum_i [-b_i]_+

    Every coincidence is answered by a burst (`B_i = 1`) with probability p, whatever other neurons
    and events do, and what listens is used to that, hence 1/p: the mean over B is the score.

    Args:
        z: activities `(N, D)`; prediction: dendritic predictions `z^`, `(rows, D)`.
        in_z, in_prediction: the rows that meet in event e, `(E,)`.
        probability: p; key: of the event's random numbers, see `seeds.uniform`.
    """
    xp, neurons = array_module(z, prediction), z.shape[1]
    on, off = xp.empty((2, len(in_z)), z.dtype)
    each = max(1, BLOCK // neurons)
    for start in range(0, len(in_z), each):
        some = slice(start, start + each)
        b = z[in_z[some]] * prediction[in_prediction[some]]
        if probability < 1:
            place = xp.arange(start * neurons, start * neurons + b.size, dtype=np.uint64)
            bursts = seeds.uniform(key, place).reshape(b.shape) < probability
            b = xp.where(bursts, b / probability, 0)
        on[some] = xp.maximum(b, 0).sum(axis=1)
        off[some] = xp.maximum(-b, 0).sum(axis=1)
    return on, off


def evidence(
    z: Array,
    prediction: Array,
    in_z: Array,
    in_prediction: Array,
    u: Array,
    *,
    noise: float = 0.0,
    probability: float = 1.0,
    key: int = 0,
) -> Array:
    """What the surprise cells hear of a prediction in the place of its score u: `ON - OFF`, `(E,)`.

    Illing et al. 2021, appendix C, "Biologically plausible computation of the score". The cell
    that sums a pathway has noise of its own, and no rate is negative:

        ON = [sum_i [b_i]_+ + sigma xi]_+,     OFF = [sum_i [-b_i]_+ + sigma xi']_+

    with independent standard normal xi, xi'. Two surprise cells compare the pathways with their
    threshold, 1, and the saccade signal y picks the one that is heard:

        H = 1 where ON < OFF + 1 at a fixation (y = +1), where OFF < ON + 1 at a saccade (y = -1),

    which is `1 - y (ON - OFF) > 0`. It is computed as the score (where no burst is missing) and
    what noise and rectification add to each pathway. That is the same number, and without noise it
    is u bit for bit, so that the circuit opens exactly where H of Eq. (3) does, ties included.

    Args:
        u: the score of every event, `(E,)`; noise: sigma, in units of the threshold.
        z, prediction, in_z, in_prediction, probability, key: see `pathways`.
    """
    on, off = pathways(z, prediction, in_z, in_prediction, probability=probability, key=key)
    xp = array_module(on)
    heard = u if probability == 1 else on - off
    if noise:
        first = len(on) * z.shape[1]  # bursts have taken the places before
        place = xp.arange(first, first + 2 * len(on), dtype=np.uint64)
        xi = seeds.normal(key, place).reshape(2, -1)
        noisy = (xp.maximum(sums + noise * x, 0) for sums, x in zip((on, off), xi, strict=True))
        added_on, added_off = (a - sums for a, sums in zip(noisy, (on, off), strict=True))
        heard = heard + (added_on - added_off).astype(u.dtype)
    return heard
