"""A run that begins with weights from elsewhere."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from plasticity.arrays import to_device
from plasticity.errors import UserError
from plasticity.fields import dashed
from plasticity.learning import rule_check
from plasticity.network import Network
from plasticity.runs import export, lifecycle, run, warm, weight_files
from plasticity.runs.folder import write_json
from plasticity.runs.measures import Measures
from plasticity.runs.options import RunOptions
from plasticity.runs.published import NAMINGS, PASSED_OVER, Naming
from plasticity.runs.run import State
from plasticity.runs.weight_files import Arrays, some

OWN = "plasticity's own export"
NAME = "import.json"


@dataclass
class Found:
    """The arrays of files, each in its place.

    Attributes:
        naming: whose names they have.
        params: by layer and parameter, as a run keeps them.
        names: of each of them in the files, by the same keys.
        left: names that are in no place.
        sizes: layers of each module as far as the names tell, else empty.
    """

    naming: str
    params: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    sizes: tuple[int, ...] = ()

    def put(self, layer: str, parameter: str, name: str, array: np.ndarray) -> None:
        """Enter an array, which may be there under another name already.

        Raises:
            UserError: it is there, and is another one.
        """
        key = layer, parameter
        if key in self.params and not np.array_equal(self.params[key], array, equal_nan=True):
            raise UserError(
                f"{self.names[key]} and {name} are both {layer}.{parameter}, and differ: leave "
                "one of them out by --leave"
            )
        self.params.setdefault(key, array)
        self.names.setdefault(key, name)

    def of(self, parameter: str) -> dict[str, np.ndarray]:
        """One parameter of all layers that have it."""
        return {layer: w for (layer, name), w in self.params.items() if name == parameter}


@dataclass(frozen=True)
class Imported:
    """What was taken: a run at its start, and what is to be said about it.

    Attributes:
        found: the arrays; drawn: the parameters of the rule that no file had, drawn by the seed;
            told: options that the files have settled, by name.
    """

    state: State
    found: Found
    drawn: list[str]
    told: dict[str, object]
    files: dict[str, str]

    @property
    def in_words(self) -> list[str]:
        """The options that the files have settled, as a command has them."""
        said = ((dashed(name), value) for name, value in self.told.items() if value is not False)
        return [flag if value is True else f"{flag} {value}" for flag, value in said]

    def write(self, folder: Path) -> None:
        """Write the run, and what it was made of as `import.json`."""
        run.save(self.state, folder, warm.path_of(folder))  # its drift is measured from there
        lifecycle.make(self.state, folder)
        names = {f"{layer}.{own}": name for (layer, own), name in self.found.names.items()}
        told = {"files": self.files, "names_of": self.found.naming, "parameters": names}
        write_json(folder / NAME, {**told, "drawn": self.drawn})


def plan(
    paths: Sequence[Path], options: RunOptions, given: Iterable[str], leave: Sequence[str] = ()
) -> Imported:
    """A new run whose weights are those of files.

    What the files tell of it and `given` does not name is taken from them: the width, the number of
    layers, colour, the modules, the prediction steps, whether W_retro is apart, the dtype.

    Args:
        given: names of the options that were asked for; leave: patterns of names of arrays that are
            not taken, such as `autoregressor.*`.

    Raises:
        UserError: a file that cannot be read, arrays that are missing, left over or of another
            shape, or numbers that are not finite.
    """
    if options.init:
        raise UserError(
            "--init begins with the weights of a run, and import with those of files: leave it away"
        )
    arrays = weight_files.read(paths)
    arrays = {n: a for n, a in arrays.items() if not any(fnmatchcase(n, p) for p in leave)}
    network = options.changed(width=1.0 if "width" not in given else options.width).network()
    found = _placed(arrays, network, paths)
    told = _told(found, options, set(given), network)
    options = options.changed(**told)
    state = lifecycle.plan(options)
    drawn = _take(state, found)
    files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return Imported(state, found, drawn, told, files)


def _placed(arrays: Arrays, network: Network, paths: Sequence[Path]) -> Found:
    """Every array in its place, by the naming that knows most of them."""
    known = {n: [name for name in arrays if n.place(name)] for n in NAMINGS}
    best = max(NAMINGS, key=lambda n: len(known[n]))
    ours = [name for name in arrays if export.place(network, name)]
    if not ours and not known[best]:
        examples = [f"{n.example} ({n.name})" for n in NAMINGS]
        raise UserError(
            f"{paths[0]} holds no weights under names that are known here: it has {some(arrays)}; "
            f"expected such as features.0.weight ({OWN}), {', '.join(examples)}"
        )
    if len(ours) >= len(known[best]):
        found = _by_our_names(arrays, network)
    else:
        found = _by_published_names(arrays, network, best)
    taken = {*found.names.values()}
    for name, array in arrays.items():
        if name in taken and (array.dtype.kind != "f" or not np.isfinite(array).all()):
            what = "values that are not finite" if array.dtype.kind == "f" else str(array.dtype)
            raise UserError(f"{name} holds {what}, expected finite real numbers")
    return found


def _by_our_names(arrays: Arrays, network: Network) -> Found:
    found = Found(OWN)
    for name, array in arrays.items():
        if place := export.place(network, name):
            found.put(*place, name, array)
        elif not PASSED_OVER.fullmatch(name):
            found.left.append(name)
    # A module ends where a layer keeps the rule's predictions.
    layers = [la for la in network.layers if any(c.name in _layers(found) for c in la.convolutions)]
    kept = found.of("W_pred")
    ends = [i for i, layer in enumerate(layers, 1) if layer.convolutions[-1].name in kept]
    if kept and ends[-1:] == [len(layers)]:
        found.sizes = tuple(b - a for a, b in zip([0, *ends], ends, strict=False))
    return found


def _layers(found: Found) -> set[str]:
    return {layer for layer, _ in found.params}


def _by_published_names(arrays: Arrays, network: Network, naming: Naming) -> Found:
    """By the order of modules, and of layers in each."""
    found, places = Found(naming.name), {name: naming.place(name) for name in arrays}
    found.left = [n for n, p in places.items() if p is None and not PASSED_OVER.fullmatch(n)]
    places = {name: place for name, place in places.items() if place is not None}
    units = sorted({(p.module, p.within) for p in places.values() if p.within})
    layers = dict(zip(units, network.layers, strict=False))
    there = {place.module for place in places.values()}
    if holes := sorted(set(range(max(there) + 1)) - {module for module, _ in units}):
        raise UserError(
            f"the files hold no layer of module {some(map(str, holes))}, counted from 0 under the "
            f"names of {naming.name}: name all files of a network, or leave out by --leave what "
            "lies above"
        )
    for name, place in places.items():
        layer = layers.get((place.module, place.within))
        if layer is not None:
            conv = f"{layer.name}.{place.conv}" if place.conv else layer.name
            found.put(conv, place.parameter, name, arrays[name])
        elif place.within:
            found.left.append(name)  # above the highest layer
    numbers = sorted({module for module, _ in layers})
    found.sizes = tuple(sum(module == m for module, _ in layers) for m in numbers)
    predictions = {name: place for name, place in places.items() if not place.within}
    if naming.by_layer and {place.module for place in predictions.values()} == {0}:
        numbers, found.sizes = [0], (len(layers),)
    tops = dict(zip(numbers, np.cumsum(found.sizes), strict=True))
    for module, parameter in sorted({(p.module, p.parameter) for p in predictions.values()}):
        own = {
            n: p for n, p in predictions.items() if (p.module, p.parameter) == (module, parameter)
        }
        if module not in tops:
            found.left += own
            continue
        below = network.layers[: tops[module]]
        kept = (found.params.get((la.name, "bias")) for la in reversed(below))
        neurons = next((len(bias) for bias in kept if bias is not None), 0)  # of z
        top, steps = below[-1].convolutions[-1].name, {}
        for name, place in own.items():
            matrix = naming.turned(arrays[name], neurons)
            if not np.array_equal(steps.setdefault(place.step or 0, matrix), matrix):
                raise UserError(f"{name} has two names and two values: leave one out by --leave")
        stacked = _stacked(steps, own)
        if parameter == "W_retro":  # kept the other way round
            stacked = stacked.swapaxes(1, 2)
        found.put(top, parameter, some(own, len(own)), np.ascontiguousarray(stacked))
    return found


def _stacked(steps: dict[int, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """The matrices of all prediction steps as one array `(K, ...)`."""
    if len(steps) == 1 and steps[0].ndim == 3:
        return steps[0]
    shapes = {matrix.shape for matrix in steps.values()}
    if sorted(steps) != list(range(len(steps))) or len(shapes) > 1:
        raise UserError(
            f"{some(names)}: expected a matrix for each prediction step from 0 on, all of one "
            f"shape, and there are {', '.join(map(str, sorted(shapes)))} of the steps "
            f"{', '.join(map(str, sorted(steps)))}"
        )
    return np.stack([steps[k] for k in sorted(steps)])


def _told(
    found: Found, options: RunOptions, given: set[str], network: Network
) -> dict[str, object]:
    """The options that the files settle, as far as they were not asked for."""
    told: dict[str, object] = {}
    takes = rule_check.takes(options.rule_class())
    kept = found.of("W_pred")
    if found.params:
        told["dtype"] = str(np.result_type(np.float32, *found.params.values()))
    there = [la for la in network.layers if any(c.name in _layers(found) for c in la.convolutions)]
    if there == list(network.layers[: len(there)]):
        told["layers"] = len(there)
    if found.sizes:
        ones = set(found.sizes) == {1}
        told["modules"] = "layers" if ones else "+".join(map(str, found.sizes))
    if kept and "steps" in takes:
        told["prediction_steps"] = len(next(iter(kept.values())))
    if kept and "symmetric" in takes and not options.block_grad:
        told["weights"] = "retro" if found.of("W_retro") else "symmetric"
    weights = found.of("weight")
    first = weights.get(network.layers[0].convolutions[0].name)
    channels = None if first is None or first.ndim < 2 else first.shape[1]
    if hasattr(options.unfed, "colour") and channels in (1, 3):
        told["colour"] = channels == 3
    all_ = [(c.outputs, len(weights[c.name])) for c in network.convolutions if c.name in weights]
    if all_:
        told["width"] = _width(all_)
    return {name: value for name, value in told.items() if name not in given}


def _width(neurons: Sequence[tuple[int, int]]) -> float:
    """What multiplies neurons of a network of width 1 to those of files: the shortest number.

    Where there is none for all layers it is that of the most; the others are named later on.
    """

    def fitting(width: float) -> int:
        return sum(max(1, round(full * width)) == n for full, n in neurons)

    low = max((n - 0.5) / full for full, n in neurons)
    high = min((n + 0.5) / full for full, n in neurons)
    rounded = [round((low + high) / 2, digits) for digits in range(1, 8)]
    return max([*rounded, *(n / full for full, n in neurons)], key=fitting)


def _take(state: State, found: Found) -> list[str]:
    """Put the arrays in the place of the weights that were drawn; what stays as it was drawn.

    Raises:
        UserError: arrays that are missing, left over or of another shape.
    """
    options = state.options
    own = {(layer, name): w for layer, all_ in state.weights.items() for name, w in all_.items()}
    encoder = {(la, name) for la, all_ in state.network.prepare(0).items() for name in all_}
    if left := found.left + [found.names[key] for key in found.params if key not in own]:
        raise UserError(
            f"{len(left)} arrays have no place in {state.network.name} under the rule "
            f"{state.rule_name}: {some(left)}; leave them out by --leave (such as --leave "
            f"'{left[0]}'), or take another --net or --rule"
        )
    if missing := [key for key in own if key in encoder and key not in found.params]:
        lacks = some(f"{layer}.{name}" for layer, name in missing)
        raise UserError(
            f"the files lack {lacks} of {state.network.name} (they were read as the names of "
            f"{found.naming}): name all files of a network, or take fewer --layers"
        )
    for (layer, name), array in found.params.items():
        there = own[layer, name]
        if array.shape != there.shape:
            raise UserError(
                f"{found.names[layer, name]} has shape {array.shape}, and {layer}.{name} of "
                f"{state.network.name} (--width {options.width:g}) is {there.shape}: take another "
                "--net, --width, --colour or --prediction-steps"
            )
        array = np.ascontiguousarray(array, np.dtype(options.dtype))
        state.weights[layer][name] = to_device(array, state.device)
    state.measures = Measures.of(state.network, state.weights)
    return [f"{layer}.{name}" for layer, name in own if (layer, name) not in found.params]
