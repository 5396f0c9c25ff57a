"""What a rule is to the rest: the interface, and what it hands back."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, ClassVar

import numpy as np

from plasticity import fields, kernels
from plasticity.arrays import Array, array_module, to_device, to_host
from plasticity.events import AllPairs, Events, Foreign, Layout, Steps, together
from plasticity.kernels import ByRow


@dataclass(frozen=True)
class Draw:
    """The random choices of one layer in one step of learning, and what is told it about the step.

    `pred` holds the events of the half that W_pred scores, one entry for each prediction step;
    `retro` those of the half that W_retro scores, or None where both halves share their events.
    `labels` are for a rule that reads them the classes of the images, int `(B,)`, or of frames
    `(time, B)`, where -1 is a frame without one. `step` counts the steps of learning from 0.
    `foreign` are the rows of other ranks' that its events name, where ranks share contexts.

    A rule that draws something else has a frozen dataclass of its own that inherits from this one;
    its further arrays come to the device with the others.
    """

    pred: tuple[Events, ...] | tuple[AllPairs, ...] | Steps
    retro: tuple[Events, ...] | tuple[AllPairs, ...] | Steps | None = None
    labels: Array | None = None
    step: int = 0
    foreign: Foreign | None = None

    def on(self, device: str, dtype: np.dtype) -> "Draw":
        """The same draw as arrays of `device`."""
        pred, retro = (
            half and tuple(e.on(device, dtype) for e in half) for half in (self.pred, self.retro)
        )
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays = {n: to_device(v, device) for n, v in own.items() if isinstance(v, np.ndarray)}
        return replace(self, pred=pred, retro=retro, **arrays)

    def together(self, layout: Layout) -> "Draw":
        """The same draw, of the host, with all its events in one, for a card: see `Together`.

        `pred` and `retro` are sequences as before, whose events are parts of it.
        """
        found = together(layout, self.pred, self.retro)
        return self if found is None else replace(self, pred=found[0], retro=found[1])


@dataclass(frozen=True)
class Parameter:
    """What a rule says of a parameter that it keeps, for files and for who looks on.

    Attributes:
        axes: of its array, in words, such as `(prediction step, target neuron j, neuron k)`.
        role: of a matrix `(K, post, pre)` that learns as Eq. (8) says, dW the sum over events at
            prediction step k of gamma post pre, the role whose gates are its: `target`, where post
            is the target and pre the context, or `context`, the other way round. Then `inspect`
            takes its entries apart.
    """

    axes: str
    role: str = ""


@dataclass(frozen=True)
class Role:
    """One role at one prediction step, before anything is summed: the factors of its events.

    Event e changes the weights onto patch `learner[e]` by
    `gamma[e] * dendrite[source[e]]_j * post_j * pre_i`.

    Attributes:
        name: `target` (Eq. 6), `context` (Eq. 7), or `label` where a readout of classes teaches.
        score: u, `(E,)`; gamma: gate times sign times the event's weight in the average, `(E,)`.
        dendrite: dendritic signals, `(rows, D)`, or a map of them for each row in a rule that
            reads maps; source: the row that reaches event e, `(E,)`.
            Where all pairs are compared score and gamma are matrices, and `listed` names the rows.
        through: W, where the dendritic signals are `W x` of rows x that stand in `dendrite`. Their
            sum over the events of a neuron then goes through W, and not each of them.
    """

    name: str
    events: Events | AllPairs
    score: Array
    gamma: Array
    dendrite: Array
    source: Array | None
    through: Array | None = None

    @property
    def signals(self) -> Array:
        """The dendritic signals, `(rows, D)` or maps of them."""
        if self.through is None:
            return self.dendrite
        rows = self.dendrite.reshape(-1, self.dendrite.shape[-1])
        signals = kernels.product(rows, self.through.T)
        return signals.reshape(*self.dendrite.shape[:-1], signals.shape[1])

    def listed(self) -> "Role":
        """The same event by event, where all pairs are compared at once."""
        if not isinstance(self.events, AllPairs):
            return self
        events, taken = self.events.listed()
        target = self.name == "target"
        source = events.context - events.first if target else events.target - events.floor
        score, gamma = (a.reshape(-1)[taken] for a in (self.score, self.gamma))
        return replace(self, events=events, score=score, gamma=gamma, source=source)

    def onto(self, drive: Array) -> None:
        """Add the dendritic signals of all events, with their gates, to the drive on patches."""
        rows, signals = (a.reshape(len(a), -1) for a in (drive, self.signals))
        by = self.events.by_target if self.name != "context" else None
        kernels.add_rows(rows, self.learner, self.gamma, signals, self.source, by)

    @property
    def learner(self) -> Array:
        return self.events.target if self.name == "target" else self.events.context

    @property
    def other(self) -> Array:
        """The patch that the learning one is compared with, `(E,)`."""
        return self.events.context if self.name == "target" else self.events.target

    @classmethod
    def of_patches(cls, name: str, z: Array, gate: Array, score: Array | None = None) -> "Role":
        """A role in which every patch is an event that changes its own synapses by its own `z`.

        dW is the average over patches (and positions, where z is a map) of `gate z_j post_j pre_i`,
        so that Hebb's rule is `gate y_j x_i`; post is what the rule names, see `Rule.post`.

        Args:
            z: what stands for the dendritic signal, `(N, D)` or a map `(N, *space, D)`.
            gate: the third factor of every patch, `(N,)`; score: what opened it, for inspection.
        """
        xp = array_module(z, gate)
        every = xp.arange(len(z) + 1)
        patch = every[:-1]
        places = z.size // z.shape[-1] if z.ndim > 2 else len(z)
        weight = xp.full(len(z), 1 / places, z.dtype)
        by_patch = ByRow(patch, every)  # each changes its own row
        event = Events(0, patch, patch, xp.ones_like(weight), weight, by_target=by_patch)
        return cls(name, event, gate if score is None else score, gate * weight, z, patch)


@dataclass
class Learning:
    """What a rule makes of a layer's encodings.

    Attributes:
        drive: `delta`, the dendritic drive summed over prediction steps, roles and events `(N, D)`.
            A rule that reads maps drives every position by itself: `(N, *space, O)`.
        context_drive: the same for the context's neurons `(N, C)` where they are another layer's.
        changes: dW of the rule's own parameters, such as `W_pred`, by name.
        loss: the value of the rule's loss, a scalar array; None for a rule that descends none.
        open_gates: fraction of events whose gate is open, a scalar array.
        measures: what else the rule reports, scalar arrays by name, each a metric of the run: such
            as `accuracy`, the fraction of images whose label a readout names.
        decay: what every patch takes from the weights onto a neuron, as a part of them, `(N, O)`:
            `dW_ji -= sum over n of decay_nj W_ji`, and the same for the bias.
        state: new values of own parameters that follow a rule of their own, by name. They take
            the place of the old ones after the step; no optimiser moves them.
        roles: those that were summed, for who looks on; if none are named, `Rule.roles` is asked.
    """

    drive: Array
    loss: Array | None
    open_gates: Array
    changes: dict[str, Array] = field(default_factory=dict)
    measures: dict[str, Array] = field(default_factory=dict)
    context_drive: Array | None = None
    decay: Array | None = None
    state: dict[str, Array] = field(default_factory=dict)
    roles: tuple[Role, ...] = ()


@dataclass(frozen=True)
class Synapses:
    """All synapses of one matrix, or all biases, in one step: see `Rule.synapses`.

    Attributes:
        parameter: `weight (O, C, *kernel)` or `bias (O,)`, the shape of all that follows.
        sums: over the events of each role, by its name; W: the matrix.
        state: what each synapse keeps, by name, see `Rule.prepare_synapses`.
        z, own, draw, layout: as in `Rule.learn`.
    """

    parameter: str
    sums: dict[str, Array]
    W: Array
    state: dict[str, Array]
    z: Array
    own: dict[str, Array]
    draw: Draw
    layout: Layout


@dataclass(frozen=True)
class Change:
    """What a rule makes of the sums: dW = sum over roles of `factor * sums` + all that is `added`.

    Attributes:
        factor: by role, of the matrix's shape or a number; 1 where a role has none.
        added: terms that are no sum over events, such as what is left of an eligibility, by name.
        state: new values of what each synapse keeps.
    """

    factor: Mapping[str, Array | float] = field(default_factory=dict)
    added: Mapping[str, Array] = field(default_factory=dict)
    state: Mapping[str, Array] = field(default_factory=dict)

    def on_host(self) -> "Change":
        """The same with NumPy arrays."""

        def there(part: Mapping[str, Array | float]) -> dict[str, Array]:
            return {n: to_host(v) if np.ndim(v) else np.array(float(v)) for n, v in part.items()}

        return Change(*map(there, (self.factor, self.added, self.state)))


@dataclass(frozen=True)
class OneSynapse:
    """What one synapse and its neurons meet in one step: what `Rule.definition` is made of.

    Rows are those of the layout (patches in the order time, image, column; frames); the P places of
    a row are those where post meets pre, before the pool. Where a rule stays behind the pool (its
    post factor is `winner`), they are the pool's windows, and a window's neuron is its most excited
    one.

    Attributes:
        pre: what the synapse meets, `(N, P)`, 1 for a bias; post: activity `rho(a)` of its neuron;
            potential: `a` of it, `(N, P)`; posts, potentials: of all neurons of the layer,
            `(N, P, D)`.
        W: its weight; weights: of all neurons from the same input, `(D,)`, its own among them.
        j: its neuron; index: its place in the matrix, `(j,)` for a bias.
        state: what it keeps, by name.
        own: the rule's parameters, and what it needs besides; draw, layout: see `Rule.learn`.
    """

    pre: np.ndarray
    post: np.ndarray
    potential: np.ndarray
    posts: np.ndarray
    potentials: np.ndarray
    W: float
    weights: np.ndarray
    j: int
    index: tuple[int, ...]
    state: dict[str, float]
    own: dict[str, np.ndarray]
    draw: Draw
    layout: Layout


class Rule:
    """A rule of plasticity: from the activity of a layer to what drives its neurons.

    A rule is a frozen dataclass that inherits from this class; its fields are its options. It must
    have a `name`, an `equation`, and either `roles`, the factors of every event, or `learn`.
    `learning.rule_check.check` says what is missing. A rule that descends a loss states it in
    `objective`, and any rule its equation for one synapse in `definition`, so that `plasticity
    verify` can compare.

    Attributes:
        equation, citation: stored with every result; modules: its usual split of a network, by the
            names of `Network.modules`.
        labels: whether it learns from the labelled training images; then it has a field `classes`,
            finds the classes of the images in every `Draw`, and reports an accuracy.
        context: `same`, or `above` where the module above predicts this one (a field of a rule
            that can do both). Below the top `prepare` then gets the neurons of that module, and
            `roles` and `learn` its encodings `(N, C)`, as a last argument, and
            `Learning.context_drive` is what they learn from it.
        locality: what an update may depend on besides the layer's input: `layer`, what is in the
            layer; `module`, what is in its module (an error that comes down); `neighbours`, its
            module, the one above and the one below; `global`, anything. `plasticity verify` checks.
        reads: `encoding`, the mean over the positions of a patch `(N, D)`; `map`, the activity
            after pooling `(N, *space, D)`; `places`, the activity `rho(a)` wherever post meets pre,
            before anything is pooled `(N, *places, D)`; or `potential`, `a` itself there. It is `z`
            below.
        post: the post factor, which multiplies every event: `winner`, 1 where a neuron is active
            and has won its pool; `active`, `rho'(a)`, whether it has won or not; `activity`,
            `rho(a)`; or `none`, 1 everywhere, where the rule's own signals are all that multiplies.
            All but the first are of the places before the pool, over which dW is then averaged.
        needs: what it reads besides z, of the layer that z is the output of, and finds in `own`:
            `weight` (and with it `bias`), and `input`, `(M, *space, C)`.
        biases: whether biases learn too, as weights from an input that is always 1.
        optimiser: `adam`, or `plain` where W moves by rate times dW; rate: its usual learning rate.
        feedback: how an error comes down in modules of several layers: by `transposed` weights, or
            by fixed `random` ones of the same shape.
        learns: False for weights that stay as they were drawn, the lower bound of comparisons.
        parameters: what it says of the parameters that it keeps, by name.
        predicts: whether it predicts targets from contexts; a recurrent layer is then the context
            of the layer below it. blocks_target: whether that layer does not learn from it.
        hinge: whether its loss is Eq. (3), `max(0, 1 - y u)`, of the scores of its events; figures
            and reports then draw it.
    """

    name: ClassVar[str]
    equation: ClassVar[str]
    citation: ClassVar[str] = ""
    modules: ClassVar[str] = "layers"
    labels: ClassVar[bool] = False
    locality: ClassVar[str] = "layer"
    reads: ClassVar[str] = "encoding"
    post: ClassVar[str] = "winner"
    needs: ClassVar[tuple[str, ...]] = ()
    biases: ClassVar[bool] = True
    optimiser: ClassVar[str] = "adam"
    rate: ClassVar[float] = 2e-4
    feedback: ClassVar[str] = "transposed"
    learns: ClassVar[bool] = True
    hinge: ClassVar[bool] = False
    predicts: ClassVar[bool] = False
    blocks_target: ClassVar[bool] = False
    parameters: ClassVar[Mapping[str, Parameter]] = {}

    def __post_init__(self) -> None:
        """Refuse options that are out of the limits that their fields name.

        Raises:
            UserError: as `fields.check`.
        """
        fields.check(self)

    def prepare(self, neurons: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The parameters that the rule keeps for a layer of `neurons`, float64, at their start.

        One that needs the layer's input gets how many it has, `inputs`, by this name.
        """
        return {}

    def prepare_synapses(self, W: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What each synapse of a matrix keeps, by name, at its start: float64, of the shape of W.

        Args:
            W: weights or biases at their start.
        """
        return {}

    def draw(self, layout: Layout, rng: np.random.Generator) -> Draw:
        """The random choices for one layer and one step."""
        return Draw(())

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """The factors of every event, role by role; what `learn` sums and the inspector shows."""
        return iter(())

    def decay(self, z: Array, own: dict[str, Array]) -> Array | None:
        """What every patch takes from the weights onto a neuron, `(N, O)`: see `Learning`."""
        return None

    def follow(self, z: Array, own: dict[str, Array]) -> dict[str, Array]:
        """New values of own parameters that no optimiser moves: `Learning.state`.

        Both `decay` and `follow` may take `draw` and `layout` as further arguments.
        """
        return {}

    def synapses(self, s: Synapses) -> Change:
        """dW of all synapses of a matrix from their sums over events, and what each then keeps.

        For what is no sum over events: a factor of the weight, an eligibility over steps of
        learning, a term of other neurons' weights. By default dW is the sum.
        """
        return Change()

    def constrain(self, W: Array, state: dict[str, Array]) -> Array:
        """What weights become after the optimiser has moved them: bounds, norms, signs, masks.

        Args:
            W: `(O, C, *kernel)`; state: what each synapse keeps. Biases are not constrained.
        """
        return W

    # A rule states its equation for one synapse, in lines or loops that read as the paper's do:
    #
    # def definition(self, s: OneSynapse) -> float:
    #     """dW of one synapse, for `plasticity verify` to compare with; slow is fine."""

    # A rule that descends a loss states it, in operators and methods that arrays and tensors share:
    #
    # def objective(self, z, held, own, draw, layout) -> Array:
    #     """The loss, of which dW is minus the gradient; `held` is z where no gradient passes."""

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """The drive on the layer's neurons, here the sum of `roles`, and what else changes.

        Args:
            z: encodings or maps, see `reads`, in the order of `layout`; own: the rule's parameters.
        """
        if type(self).roles is Rule.roles:
            raise NotImplementedError("roles, or learn")
        xp = array_module(z)
        drive, opened, summed = xp.zeros(z.shape, z.dtype), [], []
        for role in self.roles(z, own, draw, layout):
            summed.append(role)
            role.onto(drive)
            opened.append((role.gamma != 0).mean())
        loss = None
        if hasattr(self, "objective"):
            loss = self.objective(z, z, own, draw, layout)
        return Learning(
            drive,
            loss,
            sum(opened) / len(opened) if opened else xp.zeros(()),
            decay=_given(self.decay, z, own, draw, layout),
            state=_given(self.follow, z, own, draw, layout),
            roles=tuple(summed),
        )


def _given(method: Callable, *args: object) -> Any:
    """What a method gives of as many arguments as it takes."""
    return method(*args[: len(signature(method).parameters)])


def at_once(rule: Rule | type) -> bool:
    """Whether a rule says of itself, and does not inherit it, that events may come in any company:
    those of all prediction steps in one, or those of some contexts alone."""
    kind = rule if isinstance(rule, type) else type(rule)
    return vars(kind).get("at_once", False)


def reads_labels(rule: Rule | type) -> bool:
    """Whether a rule learns from labels; one that says nothing does not."""
    return getattr(rule, "labels", False)


def learns(rule: Rule | type) -> bool:
    """Whether a rule changes weights at all; one that says nothing does."""
    return getattr(rule, "learns", True)


def looks_up(rule: Rule) -> bool:
    """Whether the context of a layer is the layer above; a rule that says nothing has its own."""
    return getattr(rule, "context", "same") == "above"
