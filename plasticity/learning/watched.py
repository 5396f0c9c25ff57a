"""What a step of learning shows to those who look on."""

from dataclasses import dataclass, replace

from plasticity.arrays import Array
from plasticity.events import Layout
from plasticity.learning.losses import Loss
from plasticity.network import Seen
from plasticity.rule import Draw, Learning, Role


@dataclass(frozen=True)
class Scored:
    """A loss in one step: what its rule has read, and what it made of it.

    Attributes:
        name: under which its parameters are kept, see `losses.keys`.
        z, context: encodings or maps of the target and of the context, the same array where one
            module is both; own: the loss's parameters.
        roles: the factors of every event, as `learning` summed them.
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

    def drive(self, module: int) -> Array:
        """The drive on the encodings of one of its two modules."""
        if self.loss.crosses and module == self.loss.context:
            return self.learning.context_drive
        return self.learning.drive

    def onto(self, module: int) -> tuple[Role, ...]:
        """The roles in which one of its two modules learns."""
        if not self.loss.crosses:
            return self.roles
        if module == self.loss.target:
            return tuple(role for role in self.roles if role.name != "context")
        return tuple(
            replace(role, name="context below") for role in self.roles if role.name == "context"
        )


@dataclass(frozen=True)
class Watched:
    """One module in one step of learning, with its layers and the losses that it learns from.

    Attributes:
        layers: what each of its convolutions met, from below.
        losses: in their order; those of which it is the target change parameters of their own.
    """

    module: int
    layers: list[Seen]
    losses: tuple[Scored, ...]

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles in which the module's top learns."""
        return tuple(role for scored in self.ordered for role in scored.onto(self.module))

    @property
    def ordered(self) -> tuple[Scored, ...]:
        """The losses of which the module is the target, then those of which it is the context."""
        others = (scored for scored in self.losses if scored.loss.target != self.module)
        return (*self.predicted, *others)

    @property
    def predicted(self) -> tuple[Scored, ...]:
        """The losses of which the module is the target."""
        return tuple(scored for scored in self.losses if scored.loss.target == self.module)

    @property
    def decay(self) -> Array | None:
        """What every row takes from the weights of the top, summed over its losses `(N, O)`."""
        found = [s.learning.decay for s in self.predicted if s.learning.decay is not None]
        return sum(found[1:], found[0]) if found else None
