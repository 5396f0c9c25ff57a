"""Which precision cuBLAS is told to take."""

import numpy as np
import pytest

from plasticity.kernels import Geometry
from plasticity.kernels.cuda import convolution
from tests import standin
from tests.kernels import emulation

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("asked", ["", "0", "1"])
def test_products_of_stacks_take_tf32_only_where_it_is_asked_for_by_name(asked, dtype, monkeypatch):
    monkeypatch.delenv("CUPY_TF32", raising=False)
    if asked:
        monkeypatch.setenv("CUPY_TF32", asked)
    with standin.installed() as machine:
        import cupy

        modes, matmul = [], cupy.matmul

        def watched(a, b, out=None):
            if a.ndim == 3:
                modes.append(machine.math_mode)
            return matmul(a, b, out=out)

        monkeypatch.setattr(cupy, "matmul", watched)
        x, weight = cupy.ones((2, 4, 4, 2), dtype), cupy.ones((2, 2, 3, 3), dtype)
        geometry = Geometry.of((3, 3), pool=1)
        _, winner, _ = convolution.forward(x, weight, cupy.ones(2, dtype), geometry)
        convolution.back(winner, cupy.ones((2, 4, 4, 2), dtype), weight, (4, 4), geometry)
        low = asked == "1" and dtype is np.float32
        wanted = cupy.cuda.cublas.CUBLAS_TF32_TENSOR_OP_MATH if low else 0
        assert modes == [wanted] * 2 and machine.math_mode == 0
