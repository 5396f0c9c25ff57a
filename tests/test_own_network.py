"""The page on networks of one's own, followed by a stranger; and networks that cannot be."""

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from tests.pages import follow

HEAD = "from plasticity.network import Conv, Gru, Network, Pool\n\ndef build(width=1.0):\n    "


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("stranger"))
        return follow("own_network.md")


def test_every_command_of_the_page_ends_as_it_says(followed):
    assert len(followed) == 9
    for done in followed:
        assert done.came == done.promised, f"{done.command}: {done.output}"


def test_the_sentence_on_the_page_is_the_one_that_comes(followed):
    assert "layer b of wrong takes 16 channels, and a below it has 8 neurons" in followed[-1].output


@pytest.mark.parametrize(
    "layers, told",
    [
        ('(Conv("a", 3, 4),)', "a of n takes inputs of 3 channels, and there are 1 of images here"),
        (
            '(Conv("a", 2, 4, (5,)),)',
            "a of n takes inputs of 2 channels, and there are 1 of sound here",
        ),
        (
            '(Conv("a", 1, 4, (3, 3, 3)),)',
            "a of n takes inputs of 1 channels, and there are 3 of film here",
        ),
        ('(Conv("a", 1, 4), Conv("b", 4, 4, (3,)))', "the layers of n have 1 and 2 dimensions"),
        ('(Conv("a", 1, 4), Conv("a", 4, 4))', "several layers named a"),
        ('(Gru("g", 1, 4), Conv("b", 5, 2, (3,)))', "layer b of n takes 5 channels, and g below"),
        ("()", "the network n has no layer"),
        ('(Conv("a", 1, 4, pool=32),)', "a pool of (32, 32) is too large"),
        (
            '(Conv("a", 1, 4, (5,), 2, 0, pool=100), Conv("b", 4, 4, (500,)))',
            "b of n cannot be fed",
        ),
        ('(Conv("a", 1, 4, (3, 0)),)', "expected a whole number from 1 on"),
        ("5", "cannot be built"),
    ],
)
def test_a_network_that_cannot_be_is_told_in_a_sentence(layers, told, tmp_path):
    path = tmp_path / "net.py"
    path.write_text(f'{HEAD}return Network("n", {layers})\n')
    done = CliRunner().invoke(main, ["run", "--net", str(path), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2 and told in " ".join(done.output.split()), done.output
    assert not (tmp_path / "run").exists()
