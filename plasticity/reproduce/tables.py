"""The published experiments as data: sweeps in files beside this one, with what the paper found.

Illing, Ventura, Bellec & Gerstner, *Local plasticity rules can learn deep representations using
self-supervised contrastive predictions*, NeurIPS 2021. The published numbers are the only ones in
this project that are typed in.
"""

from difflib import get_close_matches
from importlib import resources

from plasticity.errors import UserError
from plasticity.sweeps import Row, Sweep, parse

NAMES = (
    "table1", "table6", "table4", "retro", "block_grad", "above", "layers", "figure7",
    "audio", "video",
)  # fmt: skip


def kind(row: Row) -> str:
    """What an experiment is on: `images`, `sound` or `film`."""
    return {"audio": "sound", "vgg5_video": "film"}.get(row.options.get("net"), "images")


def _shipped(name: str) -> Sweep:
    file = resources.files("plasticity.reproduce").joinpath(f"{name}.toml")
    return parse(file.read_text(encoding="utf-8"), name, f"{name}.toml")


TABLES = {name: _shipped(name) for name in NAMES}


def named(names: tuple[str, ...]) -> list[Sweep]:
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
