"""What every probe shares: which examples it takes, and where its result is kept."""

from pathlib import Path

import numpy as np

from plasticity.probes.probe import _some, probe_path


def test_some_of_so_many_are_drawn_from_all_and_in_their_order():
    some = _some(1000, 20)
    np.testing.assert_array_equal(some, np.unique(some))
    assert len(some) == 20 and some.max() > 700 and np.array_equal(some, _some(1000, 20))
    assert _some(7, 0).tolist() == list(range(7))


def test_results_of_two_folders_of_one_name_are_kept_apart():
    one, other = (probe_path(Path("run"), "regularised", f"/data/{k}/mine") for k in "ab")
    assert one != other and one.parent == other.parent == Path("run")
    assert one == probe_path(Path("run"), "regularised", "/data/a/mine")
    assert probe_path(Path("run"), "published", "stl10", "classes").name == (
        "probe-published-stl10-classes.json"
    )
