"""Everything that decides what a run computes, in one place, with its defaults."""

from dataclasses import asdict, dataclass, fields, replace

from plasticity import networks, rules
from plasticity.data import ImageSet, open_set
from plasticity.errors import UserError
from plasticity.network import Network
from plasticity.rule import Rule, reads_labels

FIRST_LOOK = 24
"""Steps of a run that names neither steps nor epochs: a look at how learning starts."""

PRESETS: dict[str, dict[str, object]] = {
    # An eighth of the width, long enough to climb above random weights: see docs/results.md.
    "small": {
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
    "block_grad": "block_grad",
    "dendrites": "dendrites",
    "learn_prediction": "learn_prediction",
}
"""Options that are the rule's, and what it calls them; which of them it has is for it to say."""


@dataclass(frozen=True)
class RunOptions:
    """The options of `plasticity run`, stored with its result.

    Attributes:
        data: `sample`, `stl10`, `cifar10` or a folder of images; data_dir: where to look for it.
        images: learn from only so many of the images; 0 takes all.
        epochs, steps: how long; `steps` wins, with neither a first look of `FIRST_LOOK` steps.
        width: multiplies the neurons of every layer; layers: how many, 0 for all.
        modules: how the network is split, see `Network.modules`; weights: `retro`, W_pred and
            W_retro apart, or `symmetric`. An empty option, or 0 negatives, is the rule's own.
        crop, patch: sides in pixels; patches overlap by half.
        lr: Adam's rate; checkpoint_minutes: how often the run is saved.
    """

    rule: str = "clapp"
    net: str = "vgg6"
    data: str = "sample"
    data_dir: str = ""
    images: int = 0
    epochs: int = 0
    steps: int = 0
    batch: int = 32
    width: float = 1.0
    layers: int = 0
    prediction_steps: int = 5
    lr: float = 2e-4
    modules: str = ""
    negatives: int = 0
    negatives_from: str = ""
    weights: str = ""
    coin: bool = False
    gate: str = "own"
    block_grad: bool = False
    dendrites: bool = True
    learn_prediction: bool = True
    crop: int = 64
    patch: int = 16
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name in ("batch", "crop", "patch", "prediction_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{_flag(name)} must be at least 1, got {getattr(self, name)}")
        for name in (
            "images",
            "epochs",
            "steps",
            "layers",
            "negatives",
            "seed",
            "checkpoint_minutes",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"{_flag(name)} must not be negative, got {getattr(self, name)}")
        if not self.lr > 0:
            raise UserError(f"--lr must be positive, got {self.lr}")
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

    @property
    def rows(self) -> int:
        """Patches along a side of the crop."""
        return (self.crop - self.patch) // (self.patch // 2) + 1

    def network(self) -> Network:
        """The network, its shapes checked."""
        network = networks.get(self.net, width=self.width)
        network = network.first(self.layers) if self.layers else network
        network.shapes((self.patch, self.patch))
        return network

    def learning_set(self) -> ImageSet:
        """The images to learn from: the unlabelled, or for a rule that reads labels the labelled.

        Raises:
            UserError: no such data set, or no labels of two classes where the rule reads them.
        """
        labelled = reads_labels(rules.find(self.rule))
        split = "train" if labelled else "unlabelled"
        images = open_set(self.data, split, self.data_dir or None)
        images = images.first(self.images) if self.images else images
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

    def classes(self) -> int:
        """How many classes the images to learn from have."""
        return len(self.learning_set().classes)

    def rule_object(self) -> Rule:
        """The rule with its options, and the number of classes if it reads labels.

        Raises:
            UserError: an option that has no meaning for the rule.
        """
        rule = rules.find(self.rule)
        own: dict[str, object] = {"classes": self.classes()} if reads_labels(rule) else {}
        for option, name in RULE_OPTIONS.items():
            value = getattr(self, option)
            if value == getattr(RunOptions, option):  # not asked for: the rule's own
                continue
            own[name] = {"weights": value == "symmetric", "coin": not value}.get(option, value)
            if name not in {f.name for f in fields(rule)}:
                flag = {"dendrites": "--no-dendrites", "learn_prediction": "--freeze-prediction"}
                raise UserError(
                    f"{flag.get(option, _flag(option))} has no meaning for the rule {self.rule}: "
                    f"it is for {', '.join(n for n in rules.RULES if _takes(n, name, own[name]))}"
                )
        return rules.get(self.rule, **own)

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
        """From what was stored; names that this version does not know are an error."""
        unknown = set(stored) - {f.name for f in fields(cls)}
        if unknown:
            raise UserError(f"unknown options in the run: {', '.join(sorted(unknown))}")
        return cls(**stored)

    def changed(self, **values: object) -> "RunOptions":
        """A copy with other values."""
        return replace(self, **values)


def _takes(rule: str, name: str, value: object) -> bool:
    """Whether a rule has this option, with this value."""
    try:
        return getattr(rules.get(rule, **{name: value}), name) == value
    except (TypeError, UserError):
        return False


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
