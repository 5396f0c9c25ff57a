"""Steps on a card by CUDA graphs: what Python asks for once is captured, and replayed.

A step is a few hundred operations, which Python asks for one by one, and the card may be done with
them sooner. A graph is all of them in one launch. It works on the memory that it was captured with,
so whatever changes from step to step lies there: weights and moments, the batch with its draws, and
the numbers of the optimiser (`Batch.pace`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.device import Sent
from plasticity.kernels.cuda import products
from plasticity.rule import learns
from plasticity.runs.run import State, moved
from plasticity.stimuli import Batch

Told = dict[str, list[Array | None]]
"""What a step tells, see `training.learn_batch`."""

KEPT = 4  # forms of batches that are remembered
TRIES = 2  # captures in which memory may come to lie elsewhere than in the rehearsal


def form(sent: Sent[Batch]) -> tuple:
    """What batches have in common that one graph can serve: all but what their arrays hold, and
    the number of the step."""
    seen: dict[int, int] = {}

    def of(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.shape, value.dtype.str
        if isinstance(value, tuple | list):
            return tuple(map(of, value))
        if not is_dataclass(value) or isinstance(value, type):
            return value
        if id(value) in seen:
            return seen[id(value)]
        seen[id(value)] = len(seen)
        return type(value), *(of(getattr(value, f.name)) for f in fields(value) if f.name != "step")

    return tuple(sent.starts), of(sent.host)


class Changing:
    """The number of a step that is captured: it may be counted on, and nobody may ask for it."""

    def __add__(self, other: int) -> "Changing":
        return self

    def _refused(self, *_: object) -> Any:
        raise TypeError("a captured step depends on its number, which would stay as it is")

    __eq__ = __bool__ = __int__ = __index__ = __float__ = __lt__ = __gt__ = __mod__ = _refused
    __hash__ = None


@dataclass
class Outcome:
    """What a step told, gathered: for each dtype an array of all its numbers."""

    told: Told
    gathered: dict[np.dtype, Array]

    @classmethod
    def of(cls, told: Told) -> "Outcome":
        import cupy

        numbers: dict[np.dtype, list[Array]] = {}
        for value in chain(*told.values()):
            if value is not None:
                if not isinstance(value, cupy.ndarray):
                    raise TypeError("a rule measures a number that does not lie on the card")
                numbers.setdefault(value.dtype, []).append(value)
        gathered = {}
        for dtype, values in numbers.items():
            gathered[dtype] = cupy.empty(len(values), dtype)
            for i, value in enumerate(values):
                gathered[dtype][i] = value
        return cls(told, gathered)

    def copied(self) -> Told:
        """The numbers as they are now, in memory that the next step leaves alone."""
        rows = {dtype: iter(numbers.copy()) for dtype, numbers in self.gathered.items()}
        return {
            name: [None if v is None else next(rows[v.dtype]) for v in values]
            for name, values in self.told.items()
        }


class Graph:
    """A step for batches of one form, and the memory that it works on.

    Attributes:
        form: see `form`; arrays: weights and moments as they lay when it was captured.
    """

    def __init__(self, of: tuple, size: int) -> None:
        import cupy

        self.form, self.arrays = of, ()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pool = cupy.cuda.MemoryPool()  # nobody else may get what the graph works on
        self.batch = cupy.empty(size, np.uint8)
        self.rehearsed, self.tries = False, 0
        self.launch: Callable[[], None] | None = None
        self.outcome: Outcome | None = None
        self.workspace: Array | None = None  # of cuBLAS

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Work goes to the stream, and takes memory of the pool."""
        import cupy

        memory = cupy.cuda.using_allocator(self.pool.malloc)
        with memory, self.stream, products.past_cupy(self.stream) as self.workspace:
            yield


class Replay:
    """A run's steps, by graphs where it can be.

    Of batches of one form (see `form`) the first is learned from as ever. The second is, too, but
    on the stream and from the memory where the third is captured. That one's graph is launched,
    and its weights, moments and losses must be to the bit those of a step as ever. Then all of this
    form are replayed. A step that cannot be captured, or differs, ends it: the run goes on as ever.

    Attributes:
        learn: a step as ever, see `training.learn_batch`; count: steps that were replayed; refused:
            why graphs are not used, once something stands against them.
    """

    def __init__(self, state: State, learn: Callable[[State, Batch], Told]) -> None:
        self.state, self.learn = state, learn
        self.count, self.refused = 0, ""
        self._graphs: list[Graph] = []
        self._last: tuple | None = None

    def step(self, sent: Sent[Batch]) -> Told:
        """Learn from a batch that is on its way to the card."""
        if self.refused:
            return self.learn(self.state, sent.item)
        own = form(sent)
        graph = next((g for g in self._graphs if g.form == own), None)
        if graph is None:
            # Where each batch has another form, none is worth a graph.
            if own == self._last:
                graph = Graph(own, sent.starts[-1])
                self._graphs = [graph, *self._graphs][:KEPT]
            else:
                self._last = own
                return self.learn(self.state, sent.item)
        arrays = list(moved(self.state))
        if graph.launch and any(a is not b for a, b in zip(arrays, graph.arrays, strict=True)):
            graph.launch = None  # somebody has put other arrays in their place
        graph.batch[...] = sent.arrived()
        if graph.launch is None:
            return self._begin(graph, sent, arrays)
        graph.launch()
        self.count += 1
        self.state.step = sent.host.step + 1
        return graph.outcome.copied()

    def close(self) -> None:
        """Give the graphs' memory back."""
        self._graphs.clear()

    def _begin(self, graph: Graph, sent: Sent[Batch], arrays: Sequence[Array]) -> Told:
        """Rehearse a step, or capture it and see that it is right; the run goes on in any case."""
        before = [a.copy() for a in arrays]
        try:
            if not graph.rehearsed:
                return self._rehearse(graph, sent)
            self._capture(graph, sent, arrays)
            if graph.launch is None:
                return self.learn(self.state, sent.item)
            graph.launch()
            found = [*[a.copy() for a in arrays], *_values(graph.outcome.copied())]
        except Exception as error:  # of CUDA, CuPy, cuBLAS or a rule: a step as ever tells
            self.refused = f"{type(error).__name__}: {error}"
        for a, content in zip(arrays, before, strict=True):
            a[...] = content
        told = self.learn(self.state, sent.item)
        if not self.refused and not _same(found, [*arrays, *_values(told)]):
            self.refused = "a step that was replayed differs from the same step as ever"
        if self.refused:
            self.close()
        return told

    def _rehearse(self, graph: Graph, sent: Sent[Batch]) -> Told:
        """A step where the next one is captured: memory is taken, and all kernels are there."""
        import cupy

        cupy.cuda.get_current_stream().synchronize()
        with graph.apart():
            outcome = Outcome.of(self.learn(self.state, sent.lying(graph.batch)))
        graph.stream.synchronize()
        graph.rehearsed = True
        return outcome.copied()

    def _capture(self, graph: Graph, sent: Sent[Batch], arrays: Sequence[Array]) -> None:
        graph.workspace = graph.outcome = None  # else they would lie elsewhere than before
        taken, batch = graph.pool.total_bytes(), _still(sent.lying(graph.batch))
        with graph.apart():
            graph.stream.begin_capture()
            try:
                graph.outcome = Outcome.of(self.learn(self.state, batch))
            finally:
                captured = graph.stream.end_capture()
        # A pool that had to take more, or gave something back, may have moved what was captured.
        if graph.pool.total_bytes() == taken:
            graph.launch, graph.arrays = captured.launch, list(arrays)
        elif graph.tries == TRIES:
            raise MemoryError("a step takes other memory each time")
        graph.tries += 1


def refused(state: State) -> str:
    """What stands against graphs in a run, before any step: nothing, or a reason."""
    if state.device == "cpu":
        return "they are of a GPU, and this run computes on the CPU"
    if state.ranks:
        return "several processes learn together, and wait for each other within a step"
    return ""


def foreign(state: State) -> str:
    """What of a run is not of this package, and may keep something between steps: its module."""
    parts = [rule for rule in state.rules if learns(rule)] + list(state.network.layers)
    modules = (type(part).__module__ for part in parts)
    return next((m for m in modules if m.partition(".")[0] not in ("rules", "plasticity")), "")


def _still(batch: Batch) -> Batch:
    """The batch of a step whose number must not be asked for."""
    draws = tuple(replace(draw, step=Changing()) for draw in batch.draws)
    return replace(batch, step=Changing(), draws=draws)


def _values(told: Told) -> list[Array]:
    return [value for value in chain(*told.values()) if value is not None]


def _same(found: Sequence[Array], wanted: Sequence[Array]) -> bool:
    """Whether two lists of arrays are equal bit by bit."""
    differ = 0
    for a, b in zip(found, wanted, strict=True):
        xp = array_module(a, b)
        a, b = (xp.ascontiguousarray(m).reshape(-1).view(np.uint8) for m in (a, b))
        differ = differ + (a != b).any()
    return not bool(differ)
