"""Means, differences and their tests, beside numbers worked by hand."""

import csv
import io

import numpy as np
import pytest
from scipy import stats

from plasticity import sweeps
from plasticity.sweeps import Measure, results, tables

SWEEP = sweeps.parse(
    'seeds = 3\ntitle = "Some & more"\n[[variant]]\nname = "a"\nrule = "oja"\n[[variant]]\n'
    'name = "b | c"\nrule = "bcm"\npublished = 50\n[[variant]]\nname = "d"\nrule = "random"\n',
    "mine",
)


def found(*rows, name="regularised probe"):
    layers = np.zeros((0, 0))
    return [
        results.Result(row, {name: Measure(values)}, {name: layers})
        for row, values in zip(SWEEP.rows, rows, strict=False)
    ]


A, B, D = (50.0, 52.0, 54.0), (53.0, 54.0, 58.0), (50.0, 52.0, None)


def test_paired_differences_are_those_of_runs_with_one_seed():
    mean, low, high, p = results.difference(Measure(B), Measure(A), "paired")
    # Differences 3, 2, 4: mean 3, deviation 1, t = 3 sqrt(3) with 2 degrees of freedom.
    assert mean == pytest.approx(3) and p == pytest.approx(2 * stats.t.sf(3 * 3**0.5, 2))
    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert (low, high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_welch_takes_each_rows_own_spread():
    mean, _, _, p = results.difference(Measure(B), Measure(A), "welch")
    v = np.array([7.0, 4.0]) / 3  # variances of the means
    t, degrees = 3 / v.sum() ** 0.5, v.sum() ** 2 / (v**2 / 2).sum()
    assert mean == pytest.approx(3) and p == pytest.approx(2 * stats.t.sf(t, degrees))


def test_seeds_that_one_of_two_rows_lacks_make_no_pair():
    shifted = (51.0, 54.0, 0.0)
    mean, *_ = results.difference(Measure(shifted), Measure(D), "paired")
    assert mean == pytest.approx(1.5)


@pytest.mark.parametrize("test", ["paired", "welch"])
@pytest.mark.parametrize(
    "pair",
    [((1.0, None, None), A), ((None,) * 3, A), ((5.0,) * 3, (5.0,) * 3), ((), ())],
)
def test_what_has_no_spread_is_not_tested(pair, test):
    assert results.difference(*map(Measure, pair), test) is None


def test_equal_differences_are_not_tested_as_pairs():
    assert results.difference(Measure((1.0, 2.0)), Measure((2.0, 3.0)), "paired") is None


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    corrected = results.holm([0.04, 0.01, 0.03, 0.9])
    assert corrected == pytest.approx([0.09, 0.04, 0.09, 0.9])  # 0.01*4, 0.03*3, max(0.04*2, .09)
    assert results.holm([0.6, 0.7]) == [1.0, 1.0] and results.holm([]) == []


def test_every_row_is_compared_with_the_first_unless_another_is_named():
    first = results.differences(SWEEP, found(A, B, (50.0, 53.0, 57.0)))
    assert [(d.row, d.pairs) for d in first] == [("b | c", 3), ("d", 3)]
    assert [d.corrected for d in first] == pytest.approx(results.holm([d.p for d in first]))


def test_losses_are_compared_only_where_nothing_was_probed():
    both = found(A, B)
    for r in both:
        r.measures["loss"] = Measure((1.0, 1.2, 1.1 + len(r.row.label)), 3)
    assert {d.measure for d in results.differences(SWEEP, both)} == {"regularised probe"}
    assert {d.measure for d in results.differences(SWEEP, found(A, B, name="loss"))} == {"loss"}


def test_the_text_says_what_was_tested_and_how():
    rows = found(A, B, D)
    told = results.differences(SWEEP, rows)
    text = results.markdown(SWEEP, rows, told)
    assert "| a      |         - |        52.0 ± 2.0 |     3 |" in text
    assert r"| b \| c |      50.0 |        55.0 ± 2.6 |     3 |" in text
    for part in ("paired by seed", "+3.0", "Differences from 'a'", "3 seeds can tell only large"):
        assert part in text
    assert "Holm" not in text.splitlines()[-1]  # one difference needs no correction
    more = results.differences(SWEEP, found(A, B, (50.0, 53.0, 57.0)))
    assert "Holm's correction for 2 comparisons" in results.compared(SWEEP, more)
    none = results.markdown(SWEEP, rows, [])
    assert "No differences are tested" in none


def test_csv_keeps_every_seed_and_every_difference():
    rows = found(A, B, D)
    first, _, last = csv.DictReader(io.StringIO(results.results_csv(SWEEP, rows)))
    assert first["row"] == "a" and first["options"] == "rule=oja" and first["published"] == ""
    assert last["regularised_probe_seed2"] == "" and last["regularised_probe_mean"] == "51.0"
    told = results.differences(SWEEP, rows)
    (line,) = csv.DictReader(io.StringIO(results.differences_csv(SWEEP, told)))
    assert (line["row"], line["baseline"], line["pairs"]) == ("b | c", "a", "3")
    assert float(line["difference"]) == pytest.approx(3)


def test_latex_is_escaped_and_has_as_many_cells_in_every_line():
    rows = found(A, B, D)
    text = results.latex(SWEEP, rows, results.differences(SWEEP, rows))
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body[:4]} == {3} and body[4].count("&") == 5
    assert r"52.0 $\pm$ 2.0" in text and r"Some \& more" in text
    assert tables.tex("a_b ^ ~ < 50 %") == r"a\_b \textasciicircum{} \textasciitilde{} $<$ 50 \%"


@pytest.mark.parametrize("grid", ["", "[grid]\nlr = [1e-3, 1e-2, 1e-1]\n"])
def test_a_figure_has_a_line_for_every_row_or_for_every_variant_over_the_grid(grid, tmp_path):
    text = f'{grid}[[variant]]\nname = "x"\nrule = "oja"\n[[variant]]\nname = "$y$"\nrule = "bcm"\n'
    sweep = sweeps.parse(text, "mine")
    layers = np.full((1, 2), 40.0)
    rows = [
        results.Result(row, {"regularised probe": Measure((40.0,))}, {"regularised probe": layers})
        for row in sweep.rows
    ]
    drawn = results.drawn(sweep, rows, tmp_path)
    assert set(drawn) == {"table", "layers"}
    axes = drawn["table"].axes[0]
    if grid:
        assert axes.get_xscale() == "log" and axes.get_xlabel() == "lr"
        assert [t.get_text() for t in axes.get_legend().get_texts()] == ["x", r"\$y\$"]
    else:
        assert [t.get_text() for t in axes.get_yticklabels()] == ["x", r"\$y\$"]
