"""What a step of learning shows to those who look on."""

from dataclasses import dataclass, field, replace

from plasticity.arrays import Array
from plasticity.events import Layout
from plasticity.learning.losses import Loss
from plasticity.learning.reading import Reading
from plasticity.network import Seen
from plasticity.rule import Change, Draw, Learning, Role, Rule


@dataclass(frozen=True)
class Scored:
    """A loss in one step: what its rule has read, and what it made of it.

    Attributes:
        name: under which its parameters are kept, see `losses.keys`.
        z, context: encodings or maps of the target and of the context, the same array where one
            module is both; own: the loss's parameters.
        layout: of the target's rows; roles: the factors of every event, as `learning` summed them.
        ends: the layers that are target and context.
    """

    loss: Loss
    name: str
    z: Array
    context: Array
    own: dict[str, Array]
    draw: Draw
    layout: Layout
    learning: Learning
    roles: tuple[Role, ...]
    ends: tuple[int, int]

    def drives(self, module: int) -> list[tuple[int, Array]]:
        """The drives on encodings of a module, each with its layer."""
        loss, (target, context) = self.loss, self.ends
        found = []
        if module == loss.target:
            found.append((target, self.learning.drive))
        if module == loss.context and loss.crosses and self.learning.context_drive is not None:
            found.append((context, self.learning.context_drive))
        return found

    def onto(self, module: int) -> tuple[Role, ...]:
        """The roles in which the top of one of its two modules learns."""
        loss = self.loss
        if not loss.crosses:
            return self.roles
        if module != loss.context:
            return tuple(role for role in self.roles if role.name != "context")
        name = "context" if loss.kept == module else "context below"
        return tuple(replace(role, name=name) for role in self.roles if role.name == "context")


@dataclass(frozen=True)
class Watched:
    """One module in one step of learning, with its layers and the losses that it learns from.

    Attributes:
        rule: that it learns by.
        layers: what each of its convolutions met, from below.
        reading: how maps became encodings.
        losses: in their order; it changes the parameters of those that it keeps.
        settled: what the rule has made of its sums, by unit and parameter, see `Rule.synapses`.
    """

    module: int
    rule: Rule
    layers: list[Seen]
    losses: tuple[Scored, ...]
    reading: Reading = field(default_factory=Reading)
    settled: dict[str, dict[str, Change]] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles in which the module's top learns."""
        return tuple(role for scored in self.ordered for role in scored.onto(self.module))

    @property
    def ordered(self) -> tuple[Scored, ...]:
        """The losses whose parameters the module keeps, then the others that it learns from."""
        others = (scored for scored in self.losses if scored.loss.kept != self.module)
        return (*self.predicted, *others)

    @property
    def predicted(self) -> tuple[Scored, ...]:
        """The losses whose parameters the module keeps: mostly those of which it is the target."""
        return tuple(scored for scored in self.losses if scored.loss.kept == self.module)

    @property
    def decay(self) -> Array | None:
        """What every row takes from the weights of the top, summed over its losses `(N, O)`."""
        found = [s.learning.decay for s in self.predicted if s.learning.decay is not None]
        return sum(found[1:], found[0]) if found else None
