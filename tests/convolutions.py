"""One check for every fast form of the convolution: the definition in float64, to rounding."""

import numpy as np

from plasticity import kernels
from plasticity.kernels import Geometry
from plasticity.kernels.definition import convolution
from tests.rounding import at_winners, close


def agrees(x, weight, bias, geometry: Geometry, shared: bool):
    """Assert that activity, winners, mean, dW, db and the error below are the definition's.

    Args:
        shared: whether the drive is one for each patch, or one for each neuron of each position.
    """
    exact = [a.astype(float) for a in (x, weight, bias)]
    y, winner, z = kernels.forward(x, weight, bias, geometry)
    wanted_y, _, wanted_z = convolution.forward(*exact, geometry)
    size_y, _, size_z = convolution.forward(*map(np.abs, exact), geometry)
    products, positions = weight[0].size + 2, y[..., 0].size + 2
    close(y, wanted_y, size_y, products)
    close(z, wanted_z, size_z, products + positions)
    assert (winner is None) == (not geometry.rectified)
    if geometry.rectified:
        a = convolution.convolve(*exact, geometry).astype(np.float32)
        close(at_winners(winner, a, geometry), wanted_y, size_y, products)
    shape = (len(x), len(weight)) if shared else y.shape
    drive = np.random.default_rng(1).standard_normal(shape, np.float32)
    driven = drive.astype(float)
    dW, db = kernels.correlate(x, winner, drive, geometry)
    wanted_dW, wanted_db = convolution.correlate(exact[0], winner, driven, geometry)
    size_dW, size_db = convolution.correlate(np.abs(exact[0]), winner, np.abs(driven), geometry)
    close(dW, wanted_dW, size_dW, positions)
    close(db, wanted_db, size_db, positions)
    space = x.shape[1:-1]
    error = kernels.back(winner, drive, weight, space, geometry)
    wanted = convolution.back(winner, driven, exact[1], space, geometry)
    size = convolution.back(winner, np.abs(driven), np.abs(exact[1]), space, geometry)
    close(error, wanted, size, weight[:, 0].size + 2)
