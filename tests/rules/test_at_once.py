"""All prediction steps at once, as a card takes them: the same numbers as step by step."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from plasticity.rules.clapp import Clapp

from plasticity import kernels, rules
from plasticity.events import Layout, Steps
from plasticity.rule import Draw

LAYOUT = Layout(6, 4, 3)
WINDOW = replace(LAYOUT, time=9, window=5)
FILM = Layout(6, 4, 1, skip=0)
VARIANTS = {
    "clapp": {},
    "clapp_s": {},
    "symmetric": {"rule": "clapp_s", "symmetric": True},
    "one gate": {"gate": "shared"},
    "one gate, symmetric": {"gate": "shared", "symmetric": True},
    "no gate": {"gate": "off"},
    "target alone": {"block_grad": True},
    "frozen": {"learn_prediction": False},
    "many negatives": {"rule": "clapp_s", "negatives": 3, "negatives_from": "batch"},
    "negatives of all": {"negatives": 2, "negatives_from": "all"},
    "hinge_cpc": {},
    "cpc": {},
    "cpc, exact logarithm": {"rule": "gim", "epsilon": 0.0},
    "above": {"above": 7},
    "above, symmetric": {"above": 7, "symmetric": True},
    "above, target alone": {"above": 7, "block_grad": True},
    "a window": {"layout": WINDOW},
    "all pairs": {"negatives_from": "others"},
    "all pairs, clapp_s": {"rule": "clapp_s", "negatives_from": "others"},
    "all pairs, symmetric": {"symmetric": True, "negatives_from": "others"},
    "all pairs, one gate": {"gate": "shared", "negatives_from": "others"},
    "all pairs, no gate": {"gate": "off", "negatives_from": "others"},
    "all pairs, target alone": {"block_grad": True, "negatives_from": "others"},
    "all pairs, hinge_cpc": {"rule": "hinge_cpc", "negatives_from": "others"},
    "all pairs, cpc": {"rule": "cpc", "negatives_from": "others"},
    "all pairs, exact logarithm": {"rule": "gim", "epsilon": 0.0, "negatives_from": "others"},
    "all pairs, above": {"above": 7, "negatives_from": "others"},
    "all pairs, a window": {"layout": WINDOW, "negatives_from": "others"},
    "maps": {"places": (2, 3)},
    "maps, many negatives": {"places": (2,), "negatives": 3, "negatives_from": "batch"},
    "maps, all pairs": {"places": (2, 3), "negatives_from": "others"},
    "maps, all pairs, gim": {"rule": "gim", "places": (2, 3), "negatives_from": "others"},
    "film": {"layout": FILM, "rule": "clapp_s", "symmetric": True, "negatives_from": "others"},
}


def case(name, D=5):
    how = {"rule": name if name in rules.RULES else "clapp", "above": None, "layout": LAYOUT}
    how |= {"places": ()} | VARIANTS[name]
    layout, above, places = (how.pop(name) for name in ("layout", "above", "places"))
    rule = rules.get(how.pop("rule"), steps=3, **how)
    rng = np.random.default_rng(3)
    own = rule.prepare(D, rng, *([above] if above else []))
    z = [rng.standard_normal((layout.rows, *places, d)) for d in (D, above) if d]
    return rule, z, own, rule.draw(layout, rng), layout


def learned(rule, z, own, draw, layout):
    found = rule.learn(z[0], own, draw, layout, *z[1:])
    arrays = {"drive": found.drive, "loss": found.loss, "open": found.open_gates}
    arrays |= found.changes
    return arrays | ({} if found.context_drive is None else {"up": found.context_drive})


@pytest.mark.parametrize("name", VARIANTS)
def test_all_steps_at_once_make_the_same_numbers(name, monkeypatch):
    rule, z, own, draw, layout = case(name)
    wanted = learned(rule, z, own, draw, layout)
    together = draw.together(layout)
    asked = []
    monkeypatch.setattr(type(rule), "roles", lambda *_: asked.append(1))  # nobody goes step by step
    found = learned(rule, z, own, together, layout)
    assert found.keys() == wanted.keys() and not asked
    for key, a in wanted.items():
        assert np.shape(found[key]) == np.shape(a)
        np.testing.assert_allclose(found[key], a, rtol=1e-12, atol=1e-13, err_msg=key)
    assert found["open"] > 0 and np.abs(found["drive"]).max() > 0


@pytest.mark.parametrize("rule", ["clapp", "gim"])
def test_a_rank_compares_its_contexts_with_all_targets_at_once(rule):
    rule = rules.get(rule, steps=3, negatives_from="others")
    rng, layout = np.random.default_rng(3), replace(WINDOW, mine=(1, 3))
    z, own = rng.standard_normal((layout.rows, 2, 5)), rule.prepare(5, rng)
    draw, c = rule.draw(layout, rng), layout.of_mine(z)  # contexts are the rank's own alone
    wanted = learned(rule, (z, c), own, draw, layout)
    found = learned(rule, (z, c), own, draw.together(layout.own()), layout)
    for key, a in wanted.items():
        np.testing.assert_allclose(found[key], a, rtol=1e-12, atol=1e-13, err_msg=key)


def halves(name):
    """For each half of a case its steps, what was drawn for them, and the layout."""
    _, _, _, draw, layout = case(name)
    together = draw.together(layout)
    for half in ("pred", "retro"):
        drawn, found = getattr(draw, half), getattr(together, half)
        if drawn is None:
            assert found is None
            continue
        assert isinstance(found, Steps) and len(found) == len(drawn)
        yield found, drawn, layout


@pytest.mark.parametrize("name", ["clapp", "target alone", "negatives of all", "a window"])
def test_the_steps_are_the_events_that_were_drawn(name):
    for found, drawn, _ in halves(name):
        for a, b in zip(found, drawn, strict=True):
            for part in ("k", "key", "first", "floor"):
                assert getattr(a, part) == getattr(b, part)
            for part in ("context", "target", "label", "weight"):
                np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
        assert found[-1].k == drawn[-1].k
        with pytest.raises(IndexError):
            found[len(drawn)]


@pytest.mark.parametrize("name", ["all pairs", "all pairs, target alone", "all pairs, a window"])
def test_the_steps_are_the_pairs_that_were_drawn(name):
    for found, drawn, layout in halves(name):
        for a, b in zip(found, drawn, strict=True):
            assert (a.k, a.among) == (b.k, b.among)
            for span in ("contexts", "targets"):
                assert getattr(a, span)(layout) == getattr(b, span)(layout)
            for part in ("label", "weight"):
                np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


@pytest.mark.parametrize("name", ["clapp", "negatives of all", "a window"])
def test_each_row_has_its_events_in_their_order(name):
    _, _, _, draw, layout = case(name)
    for half in (draw.together(layout).pred, draw.together(layout).retro):
        for event in half:
            floor = event.targets(layout).start
            for by, to in (
                (event.by_target.below(floor), event.target - floor),
                (event.by_context, event.context - event.first),
            ):
                for row in range(to.max() + 1):
                    own = by.order[by.start[row] : by.start[row + 1]] - by.base
                    np.testing.assert_array_equal(own, np.flatnonzero(to == row))


def test_the_gate_in_one_launch_is_the_rules_own():
    rule = rules.get("clapp_s")
    rng = np.random.default_rng(0)
    u, y = rng.standard_normal(50) * 2, rng.choice([-1.0, 1.0], 50)
    weight, share = rng.random((2, 50))
    event = replace(rule.draw(Layout(7, 2, 1), rng).pred[0], label=y, weight=weight)
    gamma, loss, opened = kernels.hinge(u, y, weight, share)
    np.testing.assert_array_equal(gamma, rule.gamma(u, event))
    assert loss == rule.loss(u, event)
    assert opened == pytest.approx(share[gamma != 0].sum())


@pytest.mark.parametrize("epsilon", [1e-11, 0.1, 0.0])
def test_infonce_in_one_launch_is_the_rules_own(epsilon):
    rule = rules.get("cpc", steps=2, negatives_from="others", epsilon=epsilon)
    event = rule.draw(FILM, np.random.default_rng(0)).pred[1]
    u = 2 * np.random.default_rng(1).standard_normal((16, 16))
    share = np.random.default_rng(2).random(16)
    gamma, loss, opened = kernels.infonce(u, event.number, event.true, share, epsilon)
    np.testing.assert_allclose(gamma, rule.gamma(u, event), rtol=1e-12)
    assert loss == pytest.approx(rule.loss(u, event), rel=1e-14)
    assert opened == pytest.approx(16 * share.sum())


def test_the_gate_of_all_pairs_in_one_launch_is_the_rules_own():
    rule = rules.get("clapp", negatives_from="others")
    event = rule.draw(Layout(9, 4, skip=0), np.random.default_rng(0)).pred[0]
    u, share = np.random.default_rng(1).standard_normal((16, 16)), np.arange(16.0)
    gamma, loss, opened = kernels.hinge_pairs(u, event.number, event.true, event.other, share)
    np.testing.assert_array_equal(gamma, rule.gamma(u, event))
    assert loss == rule.loss(u, event)
    assert opened == pytest.approx(((gamma != 0) * share[:, None]).sum())


@dataclass(frozen=True)
class Softer(Clapp):
    """A rule of a user, of each event by itself, whose gate has a slope."""

    name: ClassVar[str] = "softer"
    at_once: ClassVar[bool] = True

    def surprise(self, u, event):
        return (1 - event.label * u).clip(0, 1)


@pytest.mark.parametrize("negatives_from", ["patch", "others"])
def test_a_rule_of_a_user_may_take_all_steps_at_once(negatives_from, monkeypatch):
    _, z, own, _, layout = case("clapp")
    rule = Softer(steps=3, negatives_from=negatives_from)
    draw = rule.draw(layout, np.random.default_rng(5))
    wanted = learned(rule, z, own, draw, layout)
    monkeypatch.setattr(Softer, "roles", None)  # nobody goes step by step
    found = learned(rule, z, own, draw.together(layout), layout)
    for key, a in wanted.items():
        np.testing.assert_allclose(found[key], a, rtol=1e-12, atol=1e-13, err_msg=key)


@dataclass(frozen=True)
class EverySecond(Clapp):
    """A rule of a user whose gate looks at the prediction step."""

    name: ClassVar[str] = "every_second"

    def gamma(self, u, event):
        return super().gamma(u, event) * (event.k % 2)


def test_a_rule_that_inherits_goes_step_by_step_unless_it_says_otherwise():
    _, z, own, draw, layout = case("clapp")
    rule = EverySecond(steps=3)
    wanted = learned(rule, z, own, draw, layout)
    found = learned(rule, z, own, draw.together(layout), layout)
    for key, a in wanted.items():
        np.testing.assert_array_equal(found[key], a)


def test_what_does_not_go_together_stays_as_it_is():
    listed, pairs = (
        rules.get("clapp", steps=3, negatives_from=how).draw(LAYOUT, np.random.default_rng(0)).pred
        for how in ("patch", "others")
    )
    later, fewer = replace(pairs[2], first=1), replace(pairs[2], n=7)
    backwards, uneven = pairs[::-1], (pairs[0], pairs[1], replace(pairs[2], offset=50))
    mixed = listed[0], *pairs[1:]
    for pred in ((), mixed, (*pairs[:2], later), (*pairs[:2], fewer), backwards, uneven):
        draw = Draw(pred)
        assert draw.together(LAYOUT) is draw
    draw = Draw(listed, pairs)
    assert draw.together(LAYOUT) is draw
