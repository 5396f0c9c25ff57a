"""Events listed by the row that they change."""

import numpy as np
import pytest

from plasticity.kernels.by_row import ByRow


def test_a_row_lists_its_events_in_their_order():
    by_row = ByRow.of(np.array([2, 0, 2, 2, 0]), rows=4)
    assert by_row.order.tolist() == [1, 4, 0, 2, 3]
    assert by_row.start.tolist() == [0, 2, 2, 5, 5]


def test_a_segment_is_listed_after_the_other():
    to, segment = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    by_row = ByRow.of(to, 2, segment, 2)
    assert by_row.order.tolist() == [1, 0, 3, 2]
    assert by_row.one(1, rows=2, base=2).start.tolist() == [2, 3, 4]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("events", "rows"), [(10_000, 7), (300, 10_000), (0, 5), (0, 0)])
def test_the_list_is_that_of_a_stable_sort(events, rows, dtype):
    to = np.random.default_rng(0).integers(0, max(rows, 1), events).astype(dtype)
    by_row = ByRow.of(to, rows)
    assert np.array_equal(by_row.order, np.argsort(to, kind="stable"))
    assert np.array_equal(by_row.start, np.searchsorted(np.sort(to), np.arange(rows + 1)))
    assert by_row.order.dtype == by_row.start.dtype == dtype
