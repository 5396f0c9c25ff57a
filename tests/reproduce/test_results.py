"""Ours beside the published: means, places, text, CSV, LaTeX."""

import csv
import io

import pytest

from plasticity import reproduce
from plasticity.reproduce.results import (
    Result,
    agreement,
    latex,
    markdown,
    ranks,
    table_csv,
)
from plasticity.sweeps import Measure, Row, Sweep

ROWS = (
    Row("A & b", {"rule": "cpc"}, 80.0),
    Row("c", {"rule": "clapp", "weights": "retro"}, 70.0),
    Row("d", {"rule": "random"}, 20.0),
    Row("e", {"rule": "gim"}),
)
TABLE = Sweep("some_table", "Some", "table 0", ROWS)
OURS = ((30.0, 32.0, 37.0), (35.0, None, 36.0), (10.0, None, None), (None,) * 3)
RESULTS = [
    Result(row, {"published": Measure(values), "regularised": Measure(values)})
    for row, values in zip(ROWS, OURS, strict=True)
]
BUDGET = reproduce.BUDGETS["small"]


def test_mean_and_spread_are_over_the_seeds_that_were_run():
    texts = [r.main.text() for r in RESULTS]
    assert texts == ["33.0 ± 3.6", "35.5 ± 0.7", "10.0", "-"]  # sqrt(13), sqrt(1/2)
    assert RESULTS[0].main.spread == pytest.approx(13**0.5)


def test_places_count_from_the_best_and_equals_share_one():
    assert ranks([3.0, None, 5.0, 3.0, 1.0]) == [2, None, 1, 2, 4]


def test_the_orders_are_compared_where_both_numbers_are_there():
    assert agreement(RESULTS) == (pytest.approx(1 / 3), 3)  # of three pairs two agree
    assert agreement(RESULTS[2:]) is None


def test_the_text_has_a_line_for_each_row_and_says_what_was_run():
    lines = markdown(TABLE, BUDGET, RESULTS).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines[:6]]
    assert cells[2] == ["A & b", "80.0", "1", "33.0 ± 3.6", "2", "33.0 ± 3.6", "3"]
    assert cells[5] == ["e", "-", "-", "-", "-", "-", "0"]
    assert len({len(line) for line in lines[:6]}) == 1
    for part in ("budget small", "width 0.0625", "table 0", "ours: +0.33, 3 rows"):
        assert part in lines[-1]


def test_the_csv_keeps_every_seed_in_its_own_column():
    first, second, *_ = csv.DictReader(io.StringIO(table_csv(TABLE, RESULTS, 3)))
    assert first["row"] == "A & b" and float(first["published_probe_mean"]) == 33
    assert second["published_probe_seed1"] == "" and second["published_probe_seed2"] == "36.0"
    assert (
        second["options"] == "rule=clapp;weights=retro" and second["regularised_probe_seeds"] == "2"
    )


def test_the_latex_is_escaped_and_has_as_many_cells_in_every_line():
    text = latex(TABLE, BUDGET, RESULTS)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(ROWS)
    assert all(line.replace(r"\&", "").count("&") == 6 for line in body)
    assert r"A \& b & 80.0 & 1 & 33.0 $\pm$ 3.6" in text and "probe_" not in text
