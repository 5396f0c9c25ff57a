"""The audio encoder: appendix B.2 of Illing, Ventura, Bellec & Gerstner, NeurIPS 2021."""

from plasticity.errors import UserError
from plasticity.network import Conv, Gru, Network

# kernel, stride, padding of each convolution; a frame of the highest is 160 samples, 10 ms.
CONVOLUTIONS = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))
NEURONS, UNITS = 512, 256

# GIM's splits (Loewe et al. 2019): layers of each module.
SPLITS = (("6", (1,) * 6), ("5", (1, 1, 1, 1, 2)))


def build(width: float = 1.0) -> Network:
    """Five convolutions in time with ReLU and a GRU; one channel of 16 kHz.

    The appendix counts four convolutions; the hyper-parameters of its source, Loewe et al. 2019,
    give these five.

    Args:
        width: multiplies the number of neurons of every layer (at least one stays).

    Raises:
        UserError: a width that is not positive.
    """
    if not width > 0:
        raise UserError(f"--width must be positive, got {width}")
    neurons, units = (max(1, round(n * width)) for n in (NEURONS, UNITS))
    layers, inputs = [], 1
    for number, (kernel, stride, padding) in enumerate(CONVOLUTIONS, 1):
        layers.append(Conv(f"conv{number}", inputs, neurons, (kernel,), stride, padding))
        inputs = neurons
    citation = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, appendix B.2"
    return Network("audio", (*layers, Gru("gru", neurons, units)), citation, SPLITS)
