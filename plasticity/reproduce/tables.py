"""The published experiments as data: which runs make a table, and what the paper found.

Illing, Ventura, Bellec & Gerstner, *Local plasticity rules can learn deep representations using
self-supervised contrastive predictions*, NeurIPS 2021. The published numbers are the only ones in
this project that are typed in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from plasticity.errors import UserError


@dataclass(frozen=True)
class Row:
    """One line of a table: a way to learn, and what the paper measured of it.

    Attributes:
        options: of `plasticity run`, those that are this row's own; a budget names the others.
        published: accuracy in percent, or None where the paper gives no number.
        longer: multiplies the training that the budget grants.
        layer: which layer is probed, counted from 1; 0 is the last.
    """

    label: str
    options: Mapping[str, object]
    published: float | None = None
    longer: int = 1
    layer: int = 0

    @property
    def spoken(self) -> bool:
        """Whether it is an experiment on sound."""
        return self.options.get("net") == "audio"

    @property
    def title(self) -> str:
        """The label, and which layer is probed."""
        return f"{self.label}, layer {self.layer}" if self.layer else self.label


@dataclass(frozen=True)
class Table:
    """A table or a figure of the paper; `source` says where it stands there.

    `figure` is what is drawn: `rows`, a line for each; `layers`, curves over layers; `losses`,
    those of the training. `data` is what the published numbers were measured on.
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    figure: str = "rows"
    data: str = "STL-10"


def _row(label: str, rule: str, published: float | None = None, **options: object) -> Row:
    longer = 2 if rule == "clapp" else 1  # one sign of two in every step: twice the epochs, B.1
    return Row(label, {"rule": rule, **options}, published, longer)


SYMMETRIC, RETRO = {"weights": "symmetric"}, {"weights": "retro"}

RESNET = {"net": "resnet50"}
THREE = {**RESNET, "modules": "3"}

RANDOM = _row("Random init", "random", 21.8)
GREEDY = _row("Greedy supervised", "greedy_supervised", 65.0)
SUPERVISED = _row("Supervised", "supervised", 73.2)
CPC = _row("CPC", "cpc", 81.1)
HINGE = _row("Hinge Loss CPC", "hinge_cpc", 80.3, **SYMMETRIC)
CLAPP = _row("CLAPP", "clapp", 73.6, **RETRO)
CLAPP_S = _row("CLAPP-s", "clapp_s", 75.0, **SYMMETRIC)


GIM = _row("GIM, 3 modules", "gim", 78.3, modules="3")


AUDIO = {"net": "audio"}


def _spoken(label: str, rule: str, published: float, **options: object) -> Row:
    """A row of the audio table; some of its numbers are quoted from memory of the papers."""
    return _row(label, rule, published, **AUDIO, **options)


def _layers(*rows: Row) -> tuple[Row, ...]:
    """The rows again for each layer of VGG-6; published for the last."""
    return tuple(
        replace(row, published=row.published if layer == 6 else None, layer=layer)
        for row in rows
        for layer in range(1, 7)
    )


def _split(label: str, modules: str, published: float) -> Row:
    return _row(label, "clapp_s", published, modules=modules, **SYMMETRIC)


TABLES = {
    table.name: table
    for table in (
        Table(
            "table1",
            "Ways to learn",
            "table 1",
            (RANDOM, GREEDY, SUPERVISED, CPC, HINGE, CLAPP, CLAPP_S),
        ),
        Table(
            "table6",
            "CLAPP-s in modules of several layers",
            "tables 3 and 6",
            (
                Row("6 modules (CLAPP-s)", CLAPP_S.options, 74.0),
                # The numbers of layers are those that table 6 prints beside the accuracy.
                _split("4 modules, 3+1+1+1", "3+1+1+1", 75.4),
                _split("4 modules, 1+1+1+3", "1+1+1+3", 76.2),
                _split("3 modules", "3", 77.4),
                _split("2 modules", "2", 77.6),
                Row("1 module (Hinge Loss CPC)", HINGE.options, 80.3),
            ),
        ),
        Table(
            "table4",
            "ResNet-50 and VGG-6",
            "table 4",
            (
                # Values of Loewe et al. 2019, who took 3 modules for greedy supervised learning.
                _row("ResNet-50, Random init", "random", 27.0, **RESNET),
                _row("ResNet-50, Greedy supervised", "greedy_supervised", 65.2, **THREE),
                _row("ResNet-50, Supervised", "supervised", 71.4, **RESNET),
                _row("ResNet-50, CPC", "cpc", 80.5, **RESNET),
                _row("ResNet-50, GIM, 3 modules", "gim", 81.9, **THREE),
                *(
                    replace(row, label=f"VGG-6, {row.label}")
                    for row in (RANDOM, GREEDY, SUPERVISED, CPC, GIM)
                ),
            ),
        ),
        Table(
            "retro",
            "W_pred and W_retro apart",
            "appendix C, weight transport",
            (
                Row("Hinge Loss CPC, symmetric", HINGE.options, 80.3),
                _row("Hinge Loss CPC, W_retro", "hinge_cpc", 80.2, **RETRO),
                Row("CLAPP-s, symmetric", CLAPP_S.options, 75.0),
                _row("CLAPP-s, W_retro", "clapp_s", 74.1, **RETRO),
            ),
        ),
        Table(
            "block_grad",
            "The gradient blocked at the context, Eq. (13)",
            "appendix C, weight transport",
            (
                HINGE,
                _row("Hinge Loss CPC, blocked", "hinge_cpc", 78.0, block_grad=True),
                CLAPP,
                _row("CLAPP, blocked", "clapp", 70.0, block_grad=True),
            ),
        ),
        Table(
            "above",
            "Context from one layer above",
            "appendix C, predicting from higher layers",
            (
                CLAPP_S,
                _row("CLAPP-s, context above", "clapp_s", 72.4, context="above", **SYMMETRIC),
            ),
        ),
        Table(
            "layers",
            "Intermediate layers",
            "intermediate layers, printed as curves",
            _layers(RANDOM, GREEDY, SUPERVISED, HINGE, CLAPP, CLAPP_S),
            figure="layers",
        ),
        Table(
            "figure7",
            "Losses of CLAPP-s in 6, 3 and 1 modules",
            "figure 7, printed as curves",
            (
                Row("6 modules (CLAPP-s)", CLAPP_S.options),
                Row("3 modules", {**CLAPP_S.options, "modules": "3"}),
                Row("1 module (Hinge Loss CPC)", HINGE.options),
            ),
            figure="losses",
        ),
        Table(
            "audio",
            "Phones of speech",
            "table 1 and appendix B.2",
            (
                _spoken("Random init (from memory)", "random", 27.6),
                _spoken("Greedy supervised (from memory)", "greedy_supervised", 73.4),
                _spoken("Supervised (from memory)", "supervised", 77.7, credit="bptt"),
                _spoken("CPC (from memory)", "cpc", 64.3, credit="bptt"),
                _spoken("GIM, layer by layer (from memory)", "gim", 63.9, credit="bptt"),
                _spoken(
                    "Hinge Loss CPC (from memory)", "hinge_cpc", 62.8, credit="bptt", **SYMMETRIC
                ),
                _spoken("CLAPP-s, BPTT", "clapp_s", 61.7, credit="bptt", **SYMMETRIC),
                _spoken("CLAPP-s, e-prop", "clapp_s", 58.6, credit="eprop", **SYMMETRIC),
                replace(
                    _spoken(
                        "CLAPP-s, last feedforward", "clapp_s", 52.4, credit="eprop", **SYMMETRIC
                    ),
                    layer=5,
                ),
            ),
            data="LibriSpeech",
        ),
    )
}


def named(names: tuple[str, ...]) -> list[Table]:
    """The tables of these names; `all` stands for every one.

    Raises:
        UserError: no name, or an unknown one (with the nearest).
    """
    if not names:
        raise UserError(f"name a table: {', '.join(TABLES)} or all; --list shows their rows")
    found = []
    for name in names:
        if name == "all":
            found += TABLES.values()
        elif name in TABLES:
            found.append(TABLES[name])
        else:
            near = get_close_matches(name.lower().replace("-", "_"), TABLES, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(TABLES)} or all"
            raise UserError(f"unknown table '{name}': {hint}")
    return list({table.name: table for table in found}.values())
