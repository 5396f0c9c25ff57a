"""What a rule is to the rest: the interface, and what it hands back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from plasticity.arrays import Array, to_device
from plasticity.events import Events, Layout


@dataclass(frozen=True)
class Draw:
    """The random choices of one layer in one step of learning, and what is told it about the step.

    `pred` holds the events of the half that W_pred scores, one entry for each prediction step;
    `retro` those of the half that W_retro scores, or None where both halves share their events.
    `labels` are the classes of the images, int `(B,)`, for a rule that reads them.
    """

    pred: tuple[Events, ...]
    retro: tuple[Events, ...] | None = None
    labels: Array | None = None

    def on(self, device: str, dtype: np.dtype) -> "Draw":
        """The same draw as arrays of `device`."""
        pred, retro = (
            half and tuple(e.on(device, dtype) for e in half) for half in (self.pred, self.retro)
        )
        return Draw(pred, retro, None if self.labels is None else to_device(self.labels, device))


@dataclass(frozen=True)
class Role:
    """One role at one prediction step, before anything is summed: the factors of its events.

    Event e changes the weights onto patch `learner[e]` by
    `gamma[e] * dendrite[source[e]]_j * post_j * pre_i`.

    Attributes:
        name: `target` (Eq. 6), `context` (Eq. 7), or `label` where a readout of classes teaches.
        score: u, `(E,)`; gamma: gate times sign times the event's weight in the average, `(E,)`.
        dendrite: dendritic signals, `(rows, D)`; source: the row that reaches event e, `(E,)`.
    """

    name: str
    events: Events
    score: Array
    gamma: Array
    dendrite: Array
    source: Array

    @property
    def learner(self) -> Array:
        return self.events.target if self.name == "target" else self.events.context

    @property
    def other(self) -> Array:
        """The patch that the learning one is compared with, `(E,)`."""
        return self.events.context if self.name == "target" else self.events.target


@dataclass
class Learning:
    """What a rule makes of a layer's encodings.

    Attributes:
        drive: `delta`, the dendritic drive summed over prediction steps, roles and events `(N, D)`.
        context_drive: the same for the context's neurons `(N, C)` where they are another layer's.
        changes: dW of the rule's own parameters, such as `W_pred`, by name.
        loss: the value of the rule's loss, a scalar array.
        open_gates: fraction of events whose gate is open, a scalar array.
        measures: what else the rule reports, scalar arrays by name, each a metric of the run: such
            as `accuracy`, the fraction of images whose label a readout names.
    """

    drive: Array
    loss: Array
    open_gates: Array
    changes: dict[str, Array] = field(default_factory=dict)
    measures: dict[str, Array] = field(default_factory=dict)
    context_drive: Array | None = None


class Rule:
    """A rule of plasticity: from the encodings of a layer to its dendritic drive.

    A rule is a frozen dataclass that inherits from this class; its fields are its options. It must
    have a `name`, an `equation` and the method `learn`. A rule that keeps parameters has `prepare`,
    one that compares patches has `draw`, and one that yields its `roles` can be inspected event by
    event. `plasticity.interface.check` says what is missing.

    Attributes:
        equation, citation: stored with every result; modules: its usual split of a network, by the
            names of `Network.modules`.
        labels: whether it learns from the labelled training images; then it has a field `classes`,
            finds the classes of the images in every `Draw`, and reports an accuracy.
        context: `same`, or `above` where the module above predicts this one (a field of a rule
            that can do both). Below the top `prepare` then gets the neurons of that module, and
            `roles` and `learn` its encodings `(N, C)`, as a last argument, and
            `Learning.context_drive` is what they learn from it.
    """

    name: ClassVar[str]
    equation: ClassVar[str]
    citation: ClassVar[str] = ""
    modules: ClassVar[str] = "layers"
    labels: ClassVar[bool] = False

    def prepare(self, neurons: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The parameters that the rule keeps for a layer of `neurons`, float64, at their start."""
        return {}

    def draw(self, layout: Layout, rng: np.random.Generator) -> Draw:
        """The random choices for one layer and one step."""
        return Draw(())

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """The factors of every event, role by role; what `learn` sums and the inspector shows."""
        return iter(())

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """The drive on the layer's neurons and the changes of the rule's own parameters.

        Args:
            z: encodings `(N, D)`, in the order of `layout`; own: the rule's parameters.
        """
        raise NotImplementedError


def reads_labels(rule: Rule | type) -> bool:
    """Whether a rule learns from labels; one that says nothing does not."""
    return getattr(rule, "labels", False)


def looks_up(rule: Rule) -> bool:
    """Whether the context of a layer is the layer above; a rule that says nothing has its own."""
    return getattr(rule, "context", "same") == "above"
