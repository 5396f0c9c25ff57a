"""Layers that go on learning while encodings are computed: `plastic = "always"` in a section.

The examples of a stream (those that a probe is fitted to, those that it is tested on, those that a
figure shows) are encoded in their order, batch by batch. A batch is encoded by the weights as they
are; then the plastic layers learn from it, one step each, by their own rule, rate and optimiser, as
the next step of training would, but on a copy: every stream begins with the weights and moments
that the run has saved, and these stay as they are. All other layers are frozen meanwhile. So an
encoding is a function of the run, the seed, the stream's order and the size of its batches.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from plasticity import learning, seeds
from plasticity.arrays import Array
from plasticity.errors import UserError
from plasticity.learning import Schedule
from plasticity.network import Parameters
from plasticity.runs.run import State
from plasticity.runs.training import apply


@dataclass
class Held:
    """Weights that stay as they are."""

    weights: Parameters

    def met(self, x: Array, examples: int) -> None:
        """A batch has been encoded."""


@dataclass
class Stream:
    """A copy of a run on which its plastic layers learn from every batch that was encoded."""

    state: State
    count: int = 0  # batches so far
    size: int = 0  # the most examples that a batch had

    @property
    def weights(self) -> Parameters:
        """The weights by which the next batch is encoded."""
        return self.state.weights

    def met(self, x: Array, examples: int) -> None:
        """Learn from a batch that has been encoded.

        The last batch of a stream is left out where it has too few examples for a rule to compare.

        Args:
            x: the network's inputs, of so many examples.

        Raises:
            UserError: a stream whose batches are too small for the rule.
        """
        state, stimulus = self.state, self.state.options.unfed
        reading, layout = stimulus.reading, stimulus.layout(examples)
        plastic = state.assigned.plastic
        rules = [rule if m in plastic else None for m, rule in enumerate(state.rules)]
        of, space, spaces = [], x.shape[1:-1], []
        for layer in state.network.layers:
            spaces.append(space)
            space = layer.space(space)
        numbers, losses = [], []
        for number, loss in enumerate(state.losses):
            if loss.kept in plastic:
                numbers.append(number)
                context = loss.blocked_context or loss.context not in plastic
                blocked = loss.blocked or loss.target not in plastic
                losses.append(replace(loss, blocked=blocked, blocked_context=context))
                i = loss.ends(state.modules)[0]
                read = learning.read_space(
                    state.network.layers[i], rules[loss.kept].reads, spaces[i]
                )
                of.append(reading.layout(layout, read))
        key = state.options.seed, seeds.PLASTIC, self.count
        rngs = [seeds.generator(*key, number) for number in numbers]
        self.size, smaller = max(self.size, examples), examples < self.size
        self.count += 1
        how = state.modules, state.options.seed, state.step, None, losses, rngs
        try:
            draws = learning.draws(rules, of, *how)
        except UserError as error:
            if smaller:
                return
            raise UserError(
                f"layers that are plastic always learn while tested: {error}"
            ) from error
        dtype = np.dtype(state.options.dtype)
        draws = [draw.on("cpu", dtype).on(state.device, dtype) for draw in draws]
        parts = state.network, rules, state.modules, state.weights, x, layout, draws
        for update in learning.updates(*parts, losses=losses, reading=reading):
            apply(state, update, state.step + 1)
        state.step += 1


@dataclass(frozen=True)
class Plastic:
    """Weights of a run some of whose layers are plastic always; every stream begins with them."""

    state: State = field(repr=False)

    def begin(self) -> Stream:
        """A stream: a copy of weights and optimiser."""
        state = self.state
        weights, moments = (_copy(tree) for tree in (state.weights, state.optimiser.moments))
        # A schedule may have come to 0: it is training's.
        optimiser = replace(state.optimiser, moments=moments, schedule=Schedule())
        return Stream(replace(state, weights=weights, optimiser=optimiser, ranks=None))


def of(state: State, weights: Parameters) -> Parameters | Plastic:
    """Weights of a run, its own or those of its random start, as they are at test time."""
    if not state.assigned.plastic:
        return weights
    if weights is state.weights:
        return Plastic(state)
    started = state.optimiser.restarted(weights)
    return Plastic(replace(state, weights=weights, optimiser=started, step=0))


def begun(weights: Parameters | Plastic | Held | Stream) -> Held | Stream:
    """A stream by these weights, or one that goes on."""
    if isinstance(weights, Held | Stream):
        return weights
    return weights.begin() if isinstance(weights, Plastic) else Held(weights)


def _copy(tree: dict) -> dict:
    return {k: _copy(v) if isinstance(v, dict) else v.copy() for k, v in tree.items()}
