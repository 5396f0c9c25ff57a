"""A run that an earlier version began, with a rule and a network from files, is gone on with.

`fixtures/run_0_1_0/begun` was made by version 0.1.0 (two steps in float64, with a recording) and
`ended` is the same run, resumed by 0.1.0 to its fourth step.
"""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.inspection import read
from tests.golden import FIXTURES

EARLIER = FIXTURES / "run_0_1_0"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier") / "run"
    shutil.copytree(EARLIER / "begun", folder)
    files = ["--rule", str(folder / "rule.py"), "--net", str(folder / "net.py")]
    result = CliRunner().invoke(
        main, ["run", "--resume", str(folder), *files, "--steps", "4", "--no-probe"]
    )
    assert result.exit_code == 0, result.output
    return folder


def test_it_ends_with_the_weights_and_moments_of_the_version_that_began_it(ended):
    found, wanted = (
        runs.load(runs.checkpoint_path(folder)) for folder in (ended, EARLIER / "ended")
    )
    assert found.step == wanted.step == 4
    for kind in ("params", "moments"):
        flat = [dict(leaves(getattr(one, kind))) for one in (found, wanted)]
        assert flat[0].keys() == flat[1].keys()
        for name, value in flat[1].items():
            # Another machine's BLAS sums in another order; a sum that cancels is rounding alone,
            # beside the largest of its kind.
            kind = name.rpartition(".")[2]
            scale = max(np.abs(w).max() for n, w in flat[1].items() if n.endswith(f".{kind}"))
            np.testing.assert_allclose(flat[0][name], value, rtol=1e-8, atol=1e-9 * scale)
    np.testing.assert_allclose(found.metrics["loss"], wanted.metrics["loss"], rtol=1e-9)


def test_its_recording_goes_on(ended):
    recording = read(ended)
    assert recording["step"].tolist() == [1, 2, 3, 4]


def leaves(tree, path=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield path + name, value
