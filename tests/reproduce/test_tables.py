"""The published tables as data."""

import pytest

from plasticity import reproduce, rules
from plasticity.errors import UserError
from plasticity.reproduce import of_row
from plasticity.sweeps import Experiment

SAMPLE = reproduce.Budget("sample", {"data": "sample", "width": 0.02, "steps": 2, "batch": 4})
ROWS = [
    pytest.param(row, id=f"{t.name}: {row.label}, {row.layer}")
    for t in reproduce.TABLES.values()
    for row in t.rows
]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_a_run_that_can_begin(row):
    for budget in (SAMPLE, *reproduce.BUDGETS.values()):
        options = of_row(row, budget, 1).options
        layers = options.network().layers
        assert options.seed == 1 and options.rule == row.options["rule"]
        assert -1 <= row.layer - 1 < len(layers)
    options = of_row(row, SAMPLE, 0).options
    network = options.network()
    modules = network.modules(options.split_of(options.rule_object(), network))
    assert [layer for module in modules for layer in module] == list(range(len(layers)))


def test_the_paper_is_run_as_published():
    for row in reproduce.TABLES["table1"].rows:
        options = of_row(row, reproduce.BUDGETS["paper"], 0).options
        epochs = 600 if row.options["rule"] == "clapp" else 300
        assert (options.data, options.epochs, options.steps) == ("stl10", epochs, 0)
        rate = options.lr or rules.find(options.rule).rate
        assert (options.width, options.batch, rate) == (1.0, 32, 2e-4)


def test_clapp_trains_twice_as_long_at_any_budget():
    steps = {r.label: of_row(r, SAMPLE, 0).options.steps for r in reproduce.TABLES["table1"].rows}
    assert steps.pop("CLAPP") == 4 and set(steps.values()) == {2}


def test_the_rows_of_table_6_have_the_modules_that_they_name():
    for row in reproduce.TABLES["table6"].rows:
        options = of_row(row, SAMPLE, 0).options
        network = options.network()
        modules = network.modules(options.split_of(options.rule_object(), network))
        assert row.label.startswith(f"{len(modules)} module")
        if "+" in row.label:
            assert row.label.endswith("+".join(str(len(m)) for m in modules))


def test_table_4_has_the_same_ways_to_learn_for_both_encoders():
    rows = reproduce.TABLES["table4"].rows
    runs = [of_row(row, SAMPLE, 0).options for row in rows]
    assert [o.net for o in runs] == 5 * ["resnet50"] + 5 * ["vgg6"]
    assert [o.rule for o in runs[:5]] == [o.rule for o in runs[5:]]
    assert len(runs[4].network().modules(runs[4].modules)) == 3


def test_tables_share_the_runs_that_they_have_in_common():
    tables = reproduce.named(("table1", "table6", "table1"))
    assert [t.name for t in tables] == ["table1", "table6"]
    once = reproduce.of_tables(tables, SAMPLE, 2)
    rows = {(table.name, row.label): row for table in tables for row in table.rows}
    name = lambda *key: of_row(rows[key], SAMPLE, 0).name  # noqa: E731
    assert name("table1", "CLAPP-s") == name("table6", "6 modules (CLAPP-s)")
    assert name("table1", "Hinge Loss CPC") == name("table6", "1 module (Hinge Loss CPC)")
    assert len({e.name for e in once}) == len(once) == 2 * (len(rows) - 2)
    assert len({str(e.options) for e in once}) == len(once)


def test_all_rows_have_one_seed_before_any_has_two():
    seeds = [e.options.seed for e in reproduce.of_tables(reproduce.named(("all",)), SAMPLE, 3)]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


def test_an_unknown_table_is_told_the_nearest():
    with pytest.raises(UserError, match="unknown table 'Table-1': did you mean 'table1'"):
        reproduce.named(("Table-1",))
    with pytest.raises(UserError, match="unknown table 'x': expected table1, table6"):
        reproduce.named(("x",))
    with pytest.raises(UserError, match="name a table: table1"):
        reproduce.named(())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("width = [1]", "'width' must be one value"),
        ("wide = 1", "unknown key 'wide'"),
        ("rule = 'cpc'", "unknown key 'rule'"),
        ("a = = 1", "not a readable TOML file"),
    ],
)
def test_a_budget_that_cannot_be_read_is_named(text, sentence, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"mine\.toml: .*{sentence}"):
        reproduce.budget(str(path))
    with pytest.raises(UserError, match="unknown budget 'large': expected paper, small"):
        reproduce.budget("large")


PUBLISHED = {
    "table1": (21.8, 65.0, 73.2, 81.1, 80.3, 73.6, 75.0),
    "table6": (74.0, 75.4, 76.2, 77.4, 77.6, 80.3),
    "retro": (80.3, 80.2, 75.0, 74.1),
    "block_grad": (80.3, 78.0, 73.6, 70.0),
    "above": (75.0, 72.4),
    "audio": (27.6, 73.4, 77.7, 64.3, 63.9, 62.8, 61.7, 58.6, 52.4),
    "video": (30.5, 51.5, 35.7, 41.2, 36.1, 41.6),
}
"""Typed a second time, from the paper: a slip would have to be made twice."""


@pytest.mark.parametrize("table", PUBLISHED)
def test_published_numbers_are_those_of_the_paper(table):
    assert tuple(row.published for row in reproduce.TABLES[table].rows) == PUBLISHED[table]


def test_curves_over_layers_have_the_published_number_at_the_last_layer_alone():
    for row in reproduce.TABLES["layers"].rows:
        assert (row.published is not None) == (row.layer == 6)


def test_a_row_of_a_layer_shows_that_layer(monkeypatch, tmp_path):
    from plasticity.reproduce import results

    monkeypatch.setattr(Experiment, "measured", lambda *_: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    table = reproduce.TABLES["layers"]
    for found in results.collect(table, SAMPLE, 1, tmp_path):
        assert list(found.main.values) == pytest.approx([10 * found.row.layer])
    for found in results.collect(reproduce.TABLES["table1"], SAMPLE, 1, tmp_path):
        assert list(found.main.values) == pytest.approx([60])


def test_greys_of_stl10_are_normalised_as_published():
    from plasticity.data import sets

    assert sets.STL10_GREY == ((0.4120,), (0.2570,))  # a mean and a deviation for each channel
