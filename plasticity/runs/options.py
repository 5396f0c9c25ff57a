"""Everything that decides what a run computes, in one place, with its defaults."""

import math
import os
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral, Real

from plasticity import networks, plugins, rules, trust
from plasticity.data import ImageSet, absolute
from plasticity.data.utterances import Speech
from plasticity.errors import UserError
from plasticity.learning import rule_check
from plasticity.network import Network
from plasticity.rule import Rule, reads_labels
from plasticity.stimuli import STIMULI, Stimulus

Source = ImageSet | Speech
"""A data set."""

FIRST_LOOK = 24
"""Steps of a run that names neither steps nor epochs: a look at how learning starts."""

MOST = {
    "width": 1000, "layers": 10**6, "batch": 10**7, "samples": 2**31, "frames": 2**31,
    "crop": 10**5, "patch": 10**5,
    "prediction_steps": 10**4, "negatives": 10**6, "images": 2**53, "epochs": 2**53,
    "steps": 2**53, "probe_train": 2**53, "probe_test": 2**53, "record_every": 2**53,
    "checkpoint_minutes": 1e9, "lr": 1e30,
}  # fmt: skip
"""No option makes sense beyond these: what is larger is a slip, or damage."""

PRESETS: dict[str, dict[str, object]] = {
    # What climbs above random weights best within half an hour on two cores: see docs/results.md.
    "small": {
        "rule": "clapp_s",
        "width": 0.125,
        "lr": 1e-3,
        "batch": 8,
        "steps": 6000,
        "data": "cifar10",
        "probe_train": 5000,
        "probe_test": 2000,
    },
    # The same for speech: see docs/sound.md.
    "speech": {
        "rule": "clapp_s",
        "net": "audio",
        "width": 0.125,
        "weights": "symmetric",
        "lr": 1e-3,
        "steps": 3000,
        "data": "flite",
        "probe_train": 0,
        "probe_test": 0,
    },
}

RULE_OPTIONS = {
    "prediction_steps": "steps",
    "negatives": "negatives",
    "negatives_from": "negatives_from",
    "weights": "symmetric",
    "coin": "synchronous",
    "gate": "gate",
    "circuit_noise": "circuit_noise",
    "burst_probability": "burst_probability",
    "block_grad": "block_grad",
    "dendrites": "dendrites",
    "learn_prediction": "learn_prediction",
    "context": "context",
}
"""Options that are the rule's, and what it calls them; which of them it has is for it to say."""


@dataclass(frozen=True)
class RunOptions:
    """The options of `plasticity run`, stored with its result.

    Attributes:
        rule, net: a name, or the path of a file (made absolute); files: the SHA-256 of these
            files by path, which the run is bound to.
        data: `sample`, `stl10`, `cifar10`, or a folder of images; data_dir: where to look for it;
            paths are made absolute.
        images: learn from only so many of the images, drawn by the seed; 0 takes all.
        skip_damaged: leave out images that cannot be decoded.
        epochs, steps: how long; `steps` wins, with neither a first look of `FIRST_LOOK` steps.
        width: multiplies the neurons of every layer; layers: how many, 0 for all.
        modules: how the network is split, see `Network.modules`; weights: `retro`, W_pred and
            W_retro apart, or `symmetric`.
        prediction_steps to learn_prediction: fields of the rule; an empty one, or 0, is the rule's
            own. set: further fields by name, as `--set name=value` gives them.
        batch: examples in a batch, 0 for the stimulus's own.
        crop, patch: sides in pixels; patches overlap by half. samples, frames, alignment: see
            `stimuli.Sound`.
        credit: of a recurrent layer, see `Gru`; below_gru: see `learning.losses_of`.
        lr: the optimiser's rate; optimiser: `adam` or `plain`, W += lr dW; 0 and empty are the
            rule's own. checkpoint_minutes: how often the run is saved.
        probe, probe_train, probe_test: whether layers are measured at the end, on how many images.
        record, record_every: what is recorded, by the grammar of `--record`, and how often.
        identity: of the images that the run began with, by split, see `ImageSet.identity`.
    """

    rule: str = "clapp"
    net: str = "vgg6"
    data: str = "sample"
    data_dir: str = ""
    images: int = 0
    skip_damaged: bool = False
    epochs: int = 0
    steps: int = 0
    batch: int = 0
    width: float = 1.0
    layers: int = 0
    prediction_steps: int = 0
    lr: float = 0.0
    optimiser: str = ""
    modules: str = ""
    negatives: int = 0
    negatives_from: str = ""
    weights: str = ""
    coin: bool = False
    gate: str = ""
    circuit_noise: float = 0.0
    burst_probability: float = 1.0
    block_grad: bool = False
    dendrites: bool = True
    learn_prediction: bool = True
    context: str = ""
    set: dict[str, str] = field(default_factory=dict)
    crop: int = 64
    patch: int = 16
    samples: int = 20480
    frames: int = 128
    alignment: int = 2
    below_gru: str = ""
    credit: str = ""
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"
    checkpoint_minutes: float = 5.0
    probe: bool = True
    probe_train: int = 600
    probe_test: int = 400
    record: str = ""
    record_every: int = 10
    files: dict[str, str] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_type(name, value)
        for name in ("rule", "net"):
            if plugins.is_file(getattr(self, name)):
                path = plugins.absolute(getattr(self, name))
                object.__setattr__(self, name, path)
                if path not in self.files:  # named now, and so agreed to
                    object.__setattr__(self, "files", {**self.files, path: plugins.digest(path)})
                    trust.agree(self.files[path])
        object.__setattr__(self, "data", absolute(self.data))
        if self.data_dir:
            path = os.path.abspath(os.path.expanduser(self.data_dir))
            object.__setattr__(self, "data_dir", path)
        object.__setattr__(self, "set", {name: str(value) for name, value in self.set.items()})
        for name in ("crop", "patch"):
            if getattr(self, name) < 1:
                raise UserError(f"{_flag(name)} must be at least 1, got {getattr(self, name)}")
        for name in (
            "batch",
            "images",
            "epochs",
            "steps",
            "layers",
            "prediction_steps",
            "negatives",
            "seed",
            "checkpoint_minutes",
            "probe_train",
            "probe_test",
            "alignment",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"{_flag(name)} must not be negative, got {getattr(self, name)}")
        for name, most in MOST.items():
            if not getattr(self, name) <= most:
                raise UserError(f"{_flag(name)} is at most {most:,}, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**64:
            raise UserError(f"--seed is a number of 64 bits, from 0 to {2**64 - 1}")
        if not self.lr >= 0:
            raise UserError(f"--lr must be positive, got {self.lr}")
        if self.optimiser not in ("", "adam", "plain"):
            raise UserError(f"unknown --optimiser '{self.optimiser}': expected adam or plain")
        if self.dtype not in ("float32", "float64"):
            raise UserError(f"unknown --dtype '{self.dtype}': expected float32 or float64")
        if self.below_gru not in ("", "both", "gru"):
            raise UserError(f"unknown --below-gru '{self.below_gru}': expected both or gru")
        if self.credit not in ("", "eprop", "bptt", "none"):
            raise UserError(f"unknown --credit '{self.credit}': expected eprop, bptt or none")
        if self.weights not in ("", "retro", "symmetric"):
            raise UserError(f"unknown --weights '{self.weights}': expected retro or symmetric")
        if self.patch % 2:
            raise UserError(
                f"--patch must be even, since patches overlap by half, got {self.patch}"
            )
        if self.patch > self.crop:
            raise UserError(
                f"a patch of {self.patch}x{self.patch} does not fit a crop of "
                f"{self.crop}x{self.crop}: take a smaller --patch or a larger --crop"
            )

    def network(self) -> Network:
        """The network, checked against what it will be fed with."""
        network, stimulus = self._network, self.unfed
        network.shapes(stimulus.space)
        first = network.layers[0]
        if first.inputs != stimulus.channels:
            raise UserError(
                f"layer {first.name} of {network.name} takes {first.inputs} channels of "
                f"{stimulus.name}, and here there is {stimulus.channels}"
            )
        return network

    @property
    def _network(self) -> Network:
        network = networks.get(self.net, self.files.get(self.net, ""), width=self.width)
        network = network.first(self.layers) if self.layers else network
        recurrent = any(layer.recurrent for layer in network.layers)
        for name in ("credit", "below_gru"):
            if getattr(self, name) and not recurrent:
                raise UserError(
                    f"{_flag(name)} has no meaning for {network.name}: it has no recurrent layer"
                )
        return network.with_credit(self.credit) if self.credit else network

    @property
    def unfed(self) -> Stimulus:
        """The stimulus of the run, without a data set: by the dimensions of its network.

        Raises:
            UserError: a network of dimensions that no stimulus has, or an option that is another
                stimulus's.
        """
        network = self._network
        kind = STIMULI.get(network.dims)
        if kind is None:
            raise UserError(
                f"{network.name} has maps of {network.dims} dimensions, and there is no stimulus "
                f"for it: expected {', '.join(f'{d} ({k.name})' for d, k in STIMULI.items())}"
            )
        for other in STIMULI.values():
            for f in fields(other):
                alien = other is not kind and f.name != "source"
                if alien and getattr(self, f.name) != getattr(RunOptions, f.name):
                    raise UserError(
                        f"{_flag(f.name)} is for {other.name}, and {network.name} is for "
                        f"{kind.name}"
                    )
        own = {f.name: getattr(self, f.name) for f in fields(kind) if f.name != "source"}
        return kind(None, **own)

    def stimulus(self, source: Source | None = None) -> Stimulus:
        """The stimulus of the run.

        Args:
            source: a data set of the right kind, by default the one to learn from.

        Raises:
            UserError: as `learning_set`, fewer examples than a batch, or examples that are too
                small.
        """
        if source is not None:
            return replace(self.unfed, source=source)
        stimulus = replace(self.unfed, source=self.learning_set())
        if len(stimulus.source) < self.size:
            raise UserError(
                f"--batch {self.size} is more than the {len(stimulus.source)} "
                f"{stimulus.example}s of {self.data}"
            )
        return stimulus

    @property
    def size(self) -> int:
        """Examples in a batch."""
        return self.batch or self.unfed.usual["batch"]

    def learning_set(self) -> Source:
        """The examples to learn from: of images the unlabelled, or for a rule that reads labels the
        labelled.

        Raises:
            UserError: no such data set, or no labels of two classes where the rule reads them.
        """
        labelled, stimulus = reads_labels(self.rule_class()), self.unfed
        found = self.open(stimulus.learns_from(labelled))
        found = stimulus.labelled(found, self.rule) if labelled else found
        return found.drawn(self.images, self.seed) if self.images else found

    @property
    def lacks_data(self) -> bool:
        """Whether the data set is a folder that is not there."""
        named = any(self.data in kind.sets for kind in STIMULI.values())
        return not named and not os.path.isdir(self.data)

    def open(self, split: str, name: str | None = None) -> Source:
        """A split of the run's data set, or of another one that is named.

        Raises:
            UserError: as `Stimulus.open`, and examples that are not those the run began with.
        """
        if not name and self.identity and self.lacks_data:
            what = f"{self.unfed.example}s"
            raise UserError(
                f"{self.data}, which the run learned from, is not there: if the {what} were moved, "
                "name their folder by --data (run --resume) or --data-dir (all others)"
            )
        where = self.data_dir or None
        found = self.unfed.open(name or self.data, split, where, self.skip_damaged)
        if not name:
            self._check(found)
        return found

    def _check(self, found: Source) -> None:
        """Refuse examples that are not those the run began with."""
        began, what = self.identity.get(found.part, found.identity), f"{self.unfed.example}s"
        if began != found.identity:
            was, now = (identity.split(", ")[0] for identity in (began, found.identity))
            change = "their names or sizes differ" if was == now else f"{now} instead of {was}"
            raise UserError(
                f"the '{found.part}' {what} of {found.name} are not those that the run began "
                f"with ({change}): {what} were added, removed or replaced; put them back (or "
                "agree, with run --resume, by --changed-data)"
            )

    def bound(self, source: Source) -> "RunOptions":
        """The same options, bound to the examples that are there now; `source` is learned from."""
        if self.data in self.unfed.sets:  # other splits may be fetched later on
            found = {source.part: source}
        else:
            found = self.unfed.open_splits(self.data, self.data_dir or None)
        return self.changed(identity={name: one.identity for name, one in found.items()})

    def classes(self) -> int:
        """How many classes the images to learn from have."""
        return len(self.learning_set().classes)

    def rule_class(self) -> type:
        """The class of the rule."""
        return rules.find(self.rule, self.files.get(self.rule, ""))

    def rule_object(self) -> Rule:
        """The rule with its options, and the number of classes if it reads labels.

        One that is not of this package is checked.

        Raises:
            UserError: an option that has no meaning for the rule, or a rule that is incomplete.
        """
        cls = self.rule_class()
        known = rule_check.takes(cls)
        own: dict[str, object] = {"classes": self.classes()} if reads_labels(cls) else {}
        for option, name in RULE_OPTIONS.items():
            value = getattr(self, option)
            if value == getattr(RunOptions, option):  # not asked for: the rule's own
                continue
            own[name] = {"weights": value == "symmetric", "coin": not value}.get(option, value)
            if name not in known:
                flag = {"dendrites": "--no-dendrites", "learn_prediction": "--freeze-prediction"}
                who = plugins.short(self.rule)
                raise UserError(
                    f"{flag.get(option, _flag(option))} has no meaning for the rule {who}: it is "
                    f"for {', '.join(n for n in rules.RULES if _takes(n, name, own[name]))}, and "
                    f"{who} takes {rule_check.in_words(cls)}"
                )
        for name, value in self.unfed.usual.items():  # what suits the stimulus, if not asked for
            name = RULE_OPTIONS.get(name, name)
            if known.get(name) is type(value) and name not in own:
                own[name] = value
        rule = cls(**own | rule_check.typed(cls, self.set))
        if self.rule not in rules.RULES:
            rule_check.check(rule, self.rule)
        return rule

    def split_of(self, rule: Rule, network: Network) -> str:
        """How the network is split into modules: as asked for, or as the rule usually has it.

        Where the network does not know the rule's usual split, every layer is a module.
        """
        known = rule.modules in {"layers", "1", *dict(network.splits)} or "+" in rule.modules
        return self.modules or (rule.modules if known else "layers")

    def resolved(self, images: int) -> "RunOptions":
        """The same options with the values that are used where the rule's own are meant.

        Args:
            images: how many there are to learn from; 0 leaves the length of the run as it is.
        """
        rule, network, own = self.rule_object(), self.network(), {}
        takes = rule_check.takes(type(rule))
        for option, name in RULE_OPTIONS.items():
            kind = type(getattr(RunOptions, option))  # a rule of one's own may mean something else
            if option not in ("weights", "coin") and takes.get(name) is kind:
                own[option] = getattr(rule, name)
        if takes.get("symmetric") is bool:
            own["weights"] = "symmetric" if rule.symmetric else "retro"
        used = {
            **own,
            "lr": self.lr or rule.rate,
            "optimiser": self.optimiser or rule.optimiser,
            "modules": self.split_of(rule, network),
            "batch": self.size,
            "layers": len(network.layers),
        }
        return self.changed(**used | ({"steps": self.total_steps(images)} if images else {}))

    def total_steps(self, images: int) -> int:
        """How many steps the run has over a set of so many images."""
        if self.steps:
            return self.steps
        return self.epochs * (images // self.size) or FIRST_LOOK

    def as_dict(self) -> dict[str, object]:
        """By name, as stored."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, object]) -> "RunOptions":
        """From what was stored, perhaps by somebody else.

        Raises:
            UserError: a name that this version does not know, a value of another type, or a file
                of a rule or network without its SHA-256.
        """
        known = {f.name: f for f in fields(cls)}
        if unknown := set(stored) - set(known):
            raise UserError(f"unknown options in the run: {', '.join(sorted(unknown))}")
        for name, value in stored.items():
            check_type(name, value)
        for kind in ("rule", "net"):
            path = stored.get(kind, "")
            if plugins.is_file(path):
                digest = stored.get("files", {}).get(path, "")
                if len(digest) != 64 or plugins.absolute(path) != path:
                    raise UserError(
                        f"the run names the file {path} as its {kind} without the SHA-256 of its "
                        "text: it cannot be told which code it means"
                    )
        return cls(**stored)

    def moved(self, name: str, value: str) -> "RunOptions":
        """The same options where the file of the `rule` or `net` has another path now.

        Raises:
            UserError: another file, or another name, than the one that the run began with.
        """
        stored = getattr(self, name)
        if value == stored or not (plugins.is_file(value) and plugins.is_file(stored)):
            same = value == stored
        else:
            value = plugins.absolute(value)
            same = plugins.digest(value) == self.files.get(stored)
        if not same:
            raise UserError(
                f"{_flag(name)} {value} would make another run: this one began with {stored}"
                + (", which had another text" if plugins.is_file(value) else "")
            )
        files = {value if path == stored else path: sha for path, sha in self.files.items()}
        return self.changed(**{name: value, "files": files})

    def moved_data(self, name: str) -> "RunOptions":
        """The same options where the folder of images has another path now.

        Raises:
            UserError: images that are not those the run began with.
        """
        moved = self.changed(data=name)
        if moved.data == self.data:
            return self
        another = f"--data {name} would make another run: this one began with {self.data}"
        if self.data in self.unfed.sets or not self.identity:
            raise UserError(another)
        try:
            for found in self.unfed.open_splits(moved.data, None).values():
                self._check(found)
        except UserError as error:
            raise UserError(f"{another}, and {error}") from error
        return moved

    def changed(self, **values: object) -> "RunOptions":
        """A copy with other values."""
        return replace(self, **values)


def check_type(name: str, value: object) -> None:
    """Refuse an option of another type than its default's, from a file; a text for others.

    Raises:
        UserError: what was expected.
    """
    defaults = {f.name: f.default for f in fields(RunOptions)}
    kind = dict if name in ("set", "files", "identity") else type(defaults.get(name, ""))
    truth = isinstance(value, bool)
    if kind is float:
        fits = isinstance(value, Real) and not truth and math.isfinite(value)
    elif kind is int:
        fits = isinstance(value, Integral) and not truth
    elif kind is dict:
        values = str | bool | Real if name == "set" else str
        fits = isinstance(value, dict) and all(isinstance(v, values) for v in value.values())
    else:
        fits = isinstance(value, kind) and not (kind is str and "\0" in value)
    if not fits:
        expected = {float: "a finite number", int: "a whole number", str: "a text",
                    bool: "true or false", dict: "texts by name"}[kind]  # fmt: skip
        raise UserError(f"the option {name} should be {expected}, it is {value!r:.60}")


def _takes(rule: str, name: str, value: object) -> bool:
    """Whether a rule has this option, with this value."""
    try:
        return getattr(rules.get(rule, **{name: value}), name) == value
    except (TypeError, UserError):
        return False


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
