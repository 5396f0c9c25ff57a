"""A sweep as a file in TOML: common options, a grid, variants with names, seeds.

seeds = 3

[run]                       # options of `plasticity run`, as `--config` takes them
data = "sample"
width = 0.0625
steps = 200

[grid]                      # every combination
lr = [1e-3, 2e-4]

[[variant]]                 # and each with every variant
name = "CLAPP, blocked"
rule = "clapp"
block_grad = true

[probe]                     # of every run, when it has ended
protocol = "regularised"

[compare]                   # of rows with the first, or with the one that is named
test = "paired"
"""

import itertools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from plasticity import claims, networks, plugins, rules, runs
from plasticity.data import absolute
from plasticity.errors import UserError
from plasticity.runs import sections
from plasticity.runs.folder import toml
from plasticity.runs.options import RunOptions, check_type
from plasticity.sweeps.experiments import PROTOCOLS
from plasticity.sweeps.sweep import (
    FIGURES,
    TESTS,
    Compare,
    Options,
    Probe,
    Row,
    Sweep,
    folder_of,
)

NAME = "sweep.toml"
"""What a sweep's folder keeps of its file."""

MOST = 10_000  # runs: more are a slip of a grid


class _File:
    """A file that is being read; `name` is how it is called in sentences."""

    def __init__(self, name: str, trusted: bool) -> None:
        self.name, self.trusted = name, trusted

    def wrong(self, text: str) -> UserError:
        return UserError(f"{self.name}: {text}")

    def keys(self, place: str, found: object, known: Iterable[str]) -> dict[str, object]:
        """A table whose keys are known, with underscores.

        Raises:
            UserError: no table, or an unknown key (with the nearest).
        """
        if not isinstance(found, dict):
            raise self.wrong(f"{place or 'it'} should be a table of keys, it is {found!r:.60}")
        made: dict[str, object] = {}
        for key, value in found.items():
            name = key.replace("-", "_")
            if name not in (known := list(known)):
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(known)}"
                raise self.wrong(f"unknown key '{key}'{f' in {place}' if place else ''}: {hint}")
            if name in made:
                raise self.wrong(f"'{key}' stands twice in {place}, with a dash and without")
            made[name] = value
        return made

    def option(self, place: str, name: str, value: object) -> object:
        """The value of an option of `plasticity run`; what it does not take is refused by name.

        Raises:
            UserError: what is wrong, naming the file and the key.
        """
        try:
            check_type(name, value)
            if name == "layer":
                for path in sections.files(sections.checked(value)):
                    plugins.check_agreed(path, "rule", self.name, self.trusted)
            if name in ("rule", "net") and plugins.is_file(str(value)):
                plugins.check_agreed(str(value), name, self.name, self.trusted)
                return plugins.absolute(str(value))
            if name in ("rule", "net"):
                {"rule": rules.find, "net": networks.find}[name](value)
            made = RunOptions(**{name: value})
        except UserError as error:
            raise self.wrong(f"{place} {name}: {error}") from error
        if name == "set":
            return value
        return float(value) if isinstance(getattr(RunOptions, name), float) else getattr(made, name)

    def whole(self, place: str, value: object, least: int = 0) -> int:
        """A whole number."""
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not fits:
            word = "a positive whole number" if least else "a whole number, not negative"
            raise self.wrong(f"{place} should be {word}, it is {value!r:.60}")
        return value

    def text(self, place: str, value: object, choices: Iterable[str] = ()) -> str:
        """A text, perhaps one of a few."""
        choices = tuple(choices)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"{place} should be a text, it is {value!r:.60}")
        if choices and value not in choices:
            near = get_close_matches(value, choices, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(choices)}"
            raise self.wrong(f"{place} is '{value}': {hint}")
        return value

    def several(self, place: str, found: object) -> list:
        """A list that is not empty and names nothing twice."""
        if not isinstance(found, list):
            raise self.wrong(f"{place} should be a list of values, it is {found!r:.60}")
        if not found:
            raise self.wrong(f"{place} is an empty list: name at least one value, or leave it out")
        for i, value in enumerate(found):
            if value in found[:i]:
                raise self.wrong(f"{place} names {toml(value)} twice")
        return found


OPTIONS = [f.name for f in fields(RunOptions) if f.name not in ("files", "identity")]
TOP = ("title", "source", "published_on", "figure", "seeds", "run", "grid", "variant", "probe",
       "compare")  # fmt: skip
OF_ROWS = ("name", "published", "longer", "probed")


def read(path: Path, trusted: bool = False) -> Sweep:
    """A sweep from its file.

    Args:
        trusted: let rule and network files run that this user has not agreed to before.

    Raises:
        UserError: what is wrong with it, naming the file and the key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a readable TOML file ({error})") from error
    return parse(text, path.stem, str(path), trusted)


def parse(text: str, name: str, where: str = "", trusted: bool = False) -> Sweep:
    """A sweep from the text of its file.

    Args:
        name: of the sweep and its tables; where: how the file is called, by default `name`.

    Raises:
        UserError: as `read`.
    """
    where = where or name
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: not a readable TOML file ({error})") from error
    return made(found, name, where, trusted)


def made(found: Mapping[str, object], name: str, where: str, trusted: bool = False) -> Sweep:
    """A sweep from the keys of its file.

    Raises:
        UserError: as `read`.
    """
    file = _File(where, trusted)
    top = file.keys("", found, TOP)
    run = file.keys("[run]", top.get("run", {}), OPTIONS)
    run = {key: file.option("[run]", key, value) for key, value in run.items()}
    seeds = _seeds(file, top.get("seeds", 1), run)
    probe = _probe(file, top.get("probe", {}))
    varied = _grid(file, top.get("grid", {}), run)
    named = top.get("variant", [])
    if not isinstance(named, list):
        raise file.wrong("'variant' should be tables with two brackets, [[variant]]")
    compare = file.keys("[compare]", top.get("compare", {}), ("baseline", "test"))
    variants = [_variant(file, i, one, varied) for i, one in enumerate(named, 1)]
    rows = _rows(file, variants or [{}], varied, run, probe)
    if len(rows) * len(seeds) > MOST:
        raise file.wrong(f"it asks for {len(rows) * len(seeds):,} runs, at most {MOST:,} are made")
    titles = [row.title for row in rows]
    return Sweep(
        name,
        file.text("title", top.get("title", name)),
        file.text("source", top["source"]) if "source" in top else "",
        rows,
        file.text("figure", top.get("figure", "rows"), FIGURES),
        file.text("published_on", top["published_on"]) if "published_on" in top else "",
        run,
        probe,
        Compare(
            file.text("[compare] baseline", compare.get("baseline", titles[0]), titles),
            file.text("[compare] test", compare.get("test", "paired"), TESTS),
        ),
        seeds,
        varied,
        where,
        {
            **{name: top[name] for name in ("source", "published_on", "figure") if name in top},
            "title": top.get("title", name),
            "seeds": list(seeds),
            "run": run,
            "grid": _nested(varied),
            "probe": {n: v for n, v in vars(probe).items() if n in top.get("probe", {})},
            "compare": compare,
            "variant": [_told(variant) for variant in variants],
        },
    )


def _nested(varied: Mapping[str, tuple]) -> dict[str, object]:
    """A grid as its file has it."""
    own = {key[4:]: values for key, values in varied.items() if key.startswith("set.")}
    found = {key: values for key, values in varied.items() if not key.startswith("set.")}
    return found | ({"set": own} if own else {})


def _told(variant: Mapping[str, object]) -> dict[str, object]:
    """A variant as its file has it."""
    known = {name: variant[name] for name in ("longer", "probed", "published") if name in variant}
    if isinstance(by_layer := known.get("published"), dict):
        known["published"] = {str(layer): value for layer, value in by_layer.items()}
    return {"name": variant["label"], **known, **variant["options"]}


def write(sweep: Sweep, folder: Path) -> None:
    """Keep what a sweep was asked for in its folder, as a file that makes the same.

    Seeds that the folder had before stay in its list, also where fewer are asked for now.

    Raises:
        UserError: a full disk, or a folder that cannot be written to.
    """
    simple = {n: v for n, v in sweep.keys.items() if not isinstance(v, dict) and n != "variant"}
    if (folder / NAME).is_file():
        before = read(folder / NAME, trusted=True).seeds
        if set(before) - set(sweep.seeds):
            simple["seeds"] = list(dict.fromkeys([*before, *sweep.seeds]))
    parts = [_lines(simple)]
    for name, table in sweep.keys.items():
        if isinstance(table, dict) and table:
            parts.append(f"[{name}]\n{_lines(table)}")
    parts += [f"[[variant]]\n{_lines(variant)}" for variant in sweep.keys["variant"]]
    runs.write_text(folder / NAME, "\n".join(parts))


def _lines(table: Options) -> str:
    return "".join(f"{name} = {toml(value)}\n" for name, value in table.items())


def check_folder(sweep: Sweep, folder: Path) -> None:
    """Refuse a folder that holds something else, or another sweep.

    A sweep may have more rows than when it began, and other seeds.

    Raises:
        UserError: what the folder holds.
    """
    if not folder.is_dir() or claims.empty(folder):
        return
    if not (folder / NAME).is_file():
        raise UserError(f"{folder} holds something already, and no sweep: name another --out")
    stored = read(folder / NAME, trusted=True)
    lacking = {row.label for row in stored.rows} - {row.label for row in sweep.rows}
    if lacking:
        raise UserError(
            f"{folder} holds another sweep, with '{min(lacking)}', which {sweep.where} has not: "
            "name another --out"
        )
    for wanted in sweep.experiments():
        wanted.fits(folder / wanted.name)


def _seeds(file: _File, given: object, run: dict[str, object]) -> tuple[int, ...]:
    """`seeds = 3` counts from `[run] seed`, by default 0; a list names them."""
    first = run.pop("seed", None)
    if isinstance(given, list):
        if first is not None:
            raise file.wrong("[run] seed and a list of seeds say the same thing: leave one away")
        named = file.several("seeds", given)
        found = tuple(file.option("seeds:", "seed", file.whole("a seed", s)) for s in named)
    else:
        first = first or 0
        found = tuple(range(first, first + file.whole("seeds", given, least=1)))
    return found


def _probe(file: _File, given: object) -> Probe:
    found = file.keys("[probe]", given, [f.name for f in fields(Probe)])
    if "protocol" in found:
        names = found["protocol"]
        names = file.several("[probe] protocol", [names] if isinstance(names, str) else names)
        each = [file.text("[probe] protocol", one, PROTOCOLS) for one in names]
        found["protocol"] = tuple(each)
    for name in ("train", "test", "epochs", "views", "layer"):
        if name in found:
            file.whole(f"[probe] {name}", found[name], least=int(name == "views"))
    for name in ("task", "data"):
        if name in found:
            file.text(f"[probe] {name}", found[name])
    if "data" in found:
        found["data"] = absolute(found["data"])
    return Probe(**found)


def _grid(file: _File, given: object, run: Options) -> dict[str, tuple]:
    """The values of every key; `set.NAME` for fields of a rule without an option."""
    found = file.keys("[grid]", given, [*OPTIONS, "probed"])
    own = found.pop("set", {})
    if not isinstance(own, dict):
        raise file.wrong(f"[grid] set should be a table of fields, it is {own!r:.60}")
    varied = {}
    for key, values in {**found, **{f"set.{name}": of for name, of in own.items()}}.items():
        place = f"[grid] {key}"
        values = file.several(place, values)
        if key == "seed":
            raise file.wrong("[grid] seed: seeds are named by 'seeds', beside the tables")
        if key == "probed":
            values = [file.whole(place, value, least=1) for value in values]
        elif key.startswith("set."):
            values = [file.option("[grid]", "set", {key[4:]: v})[key[4:]] for v in values]
        else:
            values = [file.option("[grid]", key, value) for value in values]
        if key in run or key[4:] in run.get("set", {}):
            raise file.wrong(f"'{key}' stands in [run] and in [grid]: leave one away")
        varied[key] = tuple(values)
    return varied


def _rows(
    file: _File,
    variants: Iterable[Mapping[str, object]],
    varied: Mapping[str, tuple],
    run: Options,
    probe: Probe,
) -> tuple[Row, ...]:
    rows, labels, same = [], set(), {}
    for variant in variants:
        for values in itertools.product(*varied.values()):
            point = dict(zip(varied, values, strict=True))
            layer = point.pop("probed", variant.get("probed", probe.layer))
            options = _joined(variant.get("options", {}), point)
            label = ", ".join(filter(None, [variant.get("label", ""), *map(_said, point.items())]))
            label = label or plugins.short(str(run.get("rule", RunOptions.rule)))
            published = variant.get("published")
            if isinstance(published, dict):
                published = published.get(layer)
            row = Row(label, options, published, variant.get("longer", 1), layer)
            if row.title in labels:
                raise file.wrong(f"two variants are called '{row.title}'")
            key = toml(sorted(options.items())), row.longer, layer
            if key in same:
                raise file.wrong(
                    f"'{same[key]}' and '{row.title}' are one run: their options are the same"
                )
            labels.add(row.title)
            same[key] = row.title
            rows.append(row)
    folders: dict[str, str] = {}
    for row in rows:
        other = folders.setdefault(folder_of(row.label).casefold(), row.label)
        if other != row.label:
            raise file.wrong(
                f"'{other}' and '{row.label}' would have one folder: give one of them another name"
            )
    return tuple(rows)


def _variant(
    file: _File, number: int, given: object, varied: Mapping[str, tuple]
) -> dict[str, object]:
    """What a variant says: its options, its label, and what is known of it."""
    place = f"[[variant]] {number}"
    if isinstance(given, dict) and isinstance(given.get("name"), str):
        place = f"[[variant]] '{given['name']}'"
    found = file.keys(place, given, [*OF_ROWS, *OPTIONS])
    made: dict[str, object] = {}
    label = file.text(f"{place} name", found.pop("name")) if "name" in found else ""
    if "longer" in found:
        made["longer"] = file.whole(f"{place} longer", found.pop("longer"), least=1)
    if "probed" in found:
        made["probed"] = file.whole(f"{place} probed", found.pop("probed"))
    if "published" in found:
        made["published"] = _published(file, place, found.pop("published"))
    if "seed" in found:
        raise file.wrong(f"{place} seed: seeds are named by 'seeds', beside the tables")
    options = {key: file.option(place, key, value) for key, value in found.items()}
    for key in varied:
        name, _, own = key.partition(".")
        if name in options and (not own or own in options["set"]):
            raise file.wrong(f"{place} names '{key}', which [grid] varies: leave one away")
    made["options"] = options
    flat = {**options, **{f"set.{n}": v for n, v in options.get("set", {}).items()}}
    flat.pop("set", None)
    made["label"] = " ".join(label.split()) or ", ".join(map(_said, flat.items()))
    return made


def _published(file: _File, place: str, given: object) -> float | dict[int, float]:
    """A number in percent, or several by layer."""
    by_layer = given.items() if isinstance(given, dict) else [("0", given)]
    for layer, value in by_layer:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not (fits and 0 <= value <= 100 and layer.isdigit()):
            raise file.wrong(
                f"{place} published should be a number in percent, or several by layer, it is "
                f"{given!r:.60}"
            )
    return {int(layer): v for layer, v in by_layer} if isinstance(given, dict) else given


def _joined(options: Options, point: Options) -> dict[str, object]:
    """A variant's options with those of a point of the grid; keys `set.NAME` as they are taken."""
    own = {key[4:]: value for key, value in point.items() if key.startswith("set.")}
    found = {**options, **{n: v for n, v in point.items() if not n.startswith("set.")}}
    return found | ({"set": {**options.get("set", {}), **own}} if own else {})


def _said(item: tuple[str, object]) -> str:
    """An option and its value, as a label has it."""
    name, value = item
    if name in ("rule", "net"):
        value = plugins.short(str(value))
    elif name in ("data", "data_dir"):
        value = Path(str(value)).name
    if isinstance(value, bool):
        value = str(value).lower()
    told = f"{value:g}" if isinstance(value, float) else str(value)
    return told if name == "rule" else f"{name}={told}"
