"""Events listed by the row that they change, so that a card has nothing to sort."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from plasticity.arrays import Array


@dataclass(frozen=True)
class ByRow:
    """Events by the row that they change, those of a row in their order.

    Where they come in several `segments`, such as prediction steps, a segment is listed after the
    other; a row then takes those of all segments, in this order.

    Attributes:
        order: numbers of events; start: where in `order` those of each row begin, and where the
            last ones end, `(segments * rows + 1,)` or more.
        base: the number of the first event, from which the events of an operation count.
    """

    order: Array
    start: Array
    segments: int = 1
    base: int = 0

    @classmethod
    def of(cls, to: np.ndarray, rows: int, segment: np.ndarray | int = 0, segments: int = 1):
        """List events on the host.

        Args:
            to: the row of each event `(E,)`, 0 to rows - 1; segment: of each event.
        """
        key, size, count = segment * rows + to, segments * rows, len(to)
        # A column with one entry for each event, listed row by row: sorted by counting.
        columns = np.empty(count, bool), key, np.arange(count + 1, dtype=key.dtype)
        listed = sparse.csc_array(columns, shape=(size, count)).tocsr()
        order, start = (a.astype(to.dtype, copy=False) for a in (listed.indices, listed.indptr))
        return cls(order, start, segments)

    def one(self, segment: int, rows: int, base: int) -> "ByRow":
        """The events of one segment alone, of which the first has the number `base`."""
        start = self.start[segment * rows : (segment + 1) * rows + 1]
        return ByRow(self.order, start, base=base)

    def below(self, row: int) -> "ByRow":
        """The same for the rows from this one on, of one segment."""
        return replace(self, start=self.start[row:]) if row else self
