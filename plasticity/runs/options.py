"""Everything that decides what a run computes, in one place, with its defaults."""

import math
import os
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral, Real

from plasticity import networks, plugins, rules, trust
from plasticity.data import SETS, ImageSet, absolute, open_set, open_splits
from plasticity.errors import UserError
from plasticity.learning import rule_check
from plasticity.network import Network
from plasticity.rule import Rule, reads_labels
from plasticity.stimuli import STIMULI, Stimulus

FIRST_LOOK = 24
"""Steps of a run that names neither steps nor epochs: a look at how learning starts."""

MOST = {
    "width": 1000, "layers": 10**6, "batch": 10**7, "crop": 10**5, "patch": 10**5,
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
        crop, patch: sides in pixels; patches overlap by half.
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
    batch: int = 32
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
        for name in ("batch", "crop", "patch"):
            if getattr(self, name) < 1:
                raise UserError(f"{_flag(name)} must be at least 1, got {getattr(self, name)}")
        for name in (
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
        """The network, its shapes checked."""
        network = networks.get(self.net, self.files.get(self.net, ""), width=self.width)
        network = network.first(self.layers) if self.layers else network
        network.shapes((self.patch, self.patch))
        return network

    def stimulus(self, source: ImageSet | None = None) -> Stimulus:
        """The stimulus of the run.

        Args:
            source: a data set of the right kind, by default the one to learn from.

        Raises:
            UserError: as `learning_set`, fewer examples than a batch, or examples that are too
                small.
        """
        kind = STIMULI[2]
        found = self.learning_set() if source is None else source
        own = {f.name: getattr(self, f.name) for f in fields(kind) if f.name != "source"}
        stimulus = kind(found, **own)
        if source is None and len(found) < self.batch:
            raise UserError(
                f"--batch {self.batch} is more than the {len(found)} {stimulus.name} of {self.data}"
            )
        return stimulus

    def learning_set(self) -> ImageSet:
        """The images to learn from: the unlabelled, or for a rule that reads labels the labelled.

        Raises:
            UserError: no such data set, or no labels of two classes where the rule reads them.
        """
        labelled = reads_labels(self.rule_class())
        split = "train" if labelled else "unlabelled"
        images = self.open(split)
        images = images.drawn(self.images, self.seed) if self.images else images
        if labelled and images.labels is None:
            raise UserError(
                f"{self.rule} learns from labels, and the images of {self.data} have none: sort "
                "them into a folder for each class, or take another --rule"
            )
        if labelled and (images.labels == images.labels[0]).all():
            raise UserError(
                f"{self.rule} needs images of two classes at least: the {len(images)} images of "
                f"{self.data} are all '{images.classes[images.labels[0]]}'"
            )
        return images

    @property
    def lacks_images(self) -> bool:
        """Whether the images are a folder that is not there."""
        return self.data not in SETS and not os.path.isdir(self.data)

    def open(self, split: str, name: str | None = None) -> ImageSet:
        """A split of the run's data set, or of another one that is named.

        Raises:
            UserError: as `open_set`, and images that are not those the run began with.
        """
        if not name and self.identity and self.lacks_images:
            raise UserError(
                f"{self.data}, which the run learned from, is not there: if the images were moved, "
                "name their folder by --data (run --resume) or --data-dir (all others)"
            )
        images = open_set(
            name or self.data, split, self.data_dir or None, skip_damaged=self.skip_damaged
        )
        if not name:
            self._check(images)
        return images

    def _check(self, images: ImageSet) -> None:
        """Refuse images that are not those the run began with."""
        began = self.identity.get(images.split, images.identity)
        if began != images.identity:
            was, now = (identity.split(", ")[0] for identity in (began, images.identity))
            change = "their names or sizes differ" if was == now else f"{now} instead of {was}"
            raise UserError(
                f"the '{images.split}' images of {images.name} are not those that the run began "
                f"with ({change}): images were added, removed or replaced; put them back (or "
                "agree, with run --resume, by --changed-data)"
            )

    def bound(self, source: ImageSet) -> "RunOptions":
        """The same options, bound to the images that are there now; `source` is learned from."""
        if self.data in SETS:  # other splits may be fetched later on
            found = {source.split: source}
        else:
            found = open_splits(self.data, self.data_dir or None)
        return self.changed(identity={name: images.identity for name, images in found.items()})

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
        rule = cls(**own | rule_check.typed(cls, self.set))
        if self.rule not in rules.RULES:
            rule_check.check(rule, self.rule)
        return rule

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
            "modules": self.modules or rule.modules,
            "layers": len(network.layers),
        }
        return self.changed(**used | ({"steps": self.total_steps(images)} if images else {}))

    def total_steps(self, images: int) -> int:
        """How many steps the run has over a set of so many images."""
        if self.steps:
            return self.steps
        return self.epochs * (images // self.batch) or FIRST_LOOK

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
        if self.data in SETS or not self.identity:
            raise UserError(another)
        try:
            for images in open_splits(moved.data).values():
                self._check(images)
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
