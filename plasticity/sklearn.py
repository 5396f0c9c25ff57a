"""A run's layers as a transformer of scikit-learn (extra `sklearn`).

make_pipeline(Encoder("runs/mine", layer="conv4"), LogisticRegression())
"""

from math import isqrt
from os import PathLike
from typing import Any

import numpy as np

from plasticity.api import Run
from plasticity.api import open as open_run
from plasticity.arrays import received, to_host
from plasticity.errors import UserError, installs

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise UserError(
        f"plasticity.sklearn needs scikit-learn, which is not installed: {installs('sklearn')}"
    ) from error


class Encoder(TransformerMixin, BaseEstimator):
    """From examples to what a layer of a trained run makes of them, as `Run.encode` has it.

    Nothing is learned from what it is fitted to; `fit` opens the run.

    Args:
        run: its folder.
        layer: a name, a number from 1, `all` for all layers side by side; None: the highest.
        batch: examples at a time, 0: as the run; device: `cpu`, `cuda`, by default the run's.
        trusted: let a rule or network file that came with the run be executed.

    Attributes:
        layers_: the names of the layers that are read; n_features_in_: of an example, flattened.
    """

    def __init__(
        self,
        run: str | PathLike | None = None,
        layer: str | int | None = None,
        batch: int = 0,
        device: str | None = None,
        trusted: bool = False,
    ) -> None:
        self.run = run
        self.layer = layer
        self.batch = batch
        self.device = device
        self.trusted = trusted

    def fit(self, X: Any, y: Any = None) -> "Encoder":
        """Open the run; y is not looked at.

        Raises:
            UserError: no run there, or no such layer.
        """
        if self.run is None:
            raise UserError("Encoder wants a run: name its folder, as in Encoder('runs/mine')")
        self._opened = open_run(self.run, device=self.device, trusted=self.trusted)
        names = [layer.name for layer in self._opened.network.layers]
        if self.layer is None or self.layer == "all":
            self.layers_ = names if self.layer == "all" else names[-1:]
        elif self.layer in names:
            self.layers_ = [self.layer]
        elif str(self.layer).isdigit() and 1 <= int(self.layer) <= len(names):
            self.layers_ = [names[int(self.layer) - 1]]
        else:
            raise UserError(f"layer {self.layer}: expected {', '.join(names)}, or all")
        shape = np.shape(X)
        self.n_features_in_ = int(np.prod(shape[1:], dtype=int))
        # What a layer gives depends on the size of an example where positions are kept.
        self._sizes = {n: z.shape[1] for n, z in self._encoded(X[:1]).items()}
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encodings `(examples, neurons)`.

        Args:
            X: examples or network inputs, see `Run.encode`; of images also rows `(B, h h)` of whole
                numbers, as scikit-learn has them.

        Raises:
            UserError: examples that do not fit the network.
        """
        check_is_fitted(self, "layers_")
        found = self._encoded(X)
        return np.concatenate([to_host(z) for z in found.values()], axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """A name for each neuron, such as `conv6_0`."""
        check_is_fitted(self, "layers_")
        names = [f"{layer}_{j}" for layer, D in self._sizes.items() for j in range(D)]
        return np.array(names, object)

    def _encoded(self, X: Any) -> dict[str, Any]:
        run = self._run()
        x = received(X, run.state.device)
        if x.ndim == 2 and x.dtype == np.uint8 and run.options.unfed.dims == 2:
            channels = run.options.unfed.channels
            side = isqrt(x.shape[1] // channels)
            if side * side * channels == x.shape[1]:
                x = x.reshape(len(x), side, side, *(() if channels == 1 else (channels,)))
        found = run.encode(x, batch=self.batch)
        return {name: found[name] for name in self.layers_}

    def _run(self) -> Run:
        if getattr(self, "_opened", None) is None:  # it has been pickled
            self._opened = open_run(self.run, device=self.device, trusted=self.trusted)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the run is named, and opened again."""
        return {name: v for name, v in super().__getstate__().items() if name != "_opened"}
