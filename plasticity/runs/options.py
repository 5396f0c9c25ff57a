"""Everything that decides what a run computes, in one place, with its defaults."""

import math
import os
from collections.abc import Container
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from inspect import signature
from numbers import Integral, Real

from plasticity import fields, networks, plugins, rules, trust
from plasticity.data import absolute
from plasticity.errors import UserError
from plasticity.fields import dashed, option
from plasticity.kernels import CREDITS, PRECISIONS
from plasticity.learning import Schedule, rule_check
from plasticity.network import Network
from plasticity.rule import Rule, reads_labels
from plasticity.runs import sections, sets
from plasticity.stimuli import STIMULI, Stimulus

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
    # The same for film: see docs/film.md.
    "film": {
        "rule": "clapp_s",
        "net": "vgg5_video",
        "width": 0.125,
        "lr": 1e-3,
        "steps": 3000,
        "probe_train": 1000,
        "probe_test": 500,
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

OF_RULES = fields.gathered(rules.find(name) for name in rules.RULES)
"""Options that are fields of rules; which of them a rule has is for it to say."""

OF_STIMULI = fields.gathered(STIMULI.values())
"""Options that are fields of stimuli."""

BOUND = ("set", "layer", "files", "identity", "changes")
"""What is no option of its own: further fields of the rule, and what a run is bound to."""


@dataclass(frozen=True)
@fields.with_options({**OF_RULES, **OF_STIMULI})
class RunOptions:
    """The options of `plasticity run`, stored with its result.

    Besides those here it has the fields of rules and stimuli that are options of a run (`OF_RULES`,
    `OF_STIMULI`), under the names of their flags.

    Attributes:
        rule, net: a name, or the path of a file (made absolute); files: the SHA-256 of these
            files by path, which the run is bound to.
        data, data_dir: paths are made absolute.
        modules: see `Network.modules`; credit: see `Gru`; below_gru: see `learning.losses_of`;
            norm, norm_order: see `NormConv`.
        precision: see `Network.with_precision`.
        set: further fields of the rule by name, as `--set name=value` gives them.
        layer: what single layers learn by, by their names: see `sections`.
        identity: of the examples that the run began with, by split, see `ImageSet.identity`.
        changes: what was changed on the way, by the step after which it holds: see `changes`.
    """

    rule: str = option(
        "clapp",
        f"{', '.join(rules.RULES)}, one of an installed package, or a file such as ./my_rule.py.",
    )
    net: str = option(
        "vgg6",
        f"{', '.join(networks.NETWORKS)}, one of an installed package, or a "
        "file such as ./my_network.py.",
    )
    data: str = option(
        "sample",
        "For "
        + "; for ".join(
            f"{kind.name} {', '.join(kind.sets)} or a folder" for kind in STIMULI.values()
        )
        + "; see 'plasticity data'.",
    )
    data_dir: str = option("", "Where data sets are; see 'plasticity data'.", free=True)
    init: str = option(
        "", "Begin with the weights of this run, or checkpoint file, also of another rule."
    )
    images: int = option(
        0,
        "Learn from only so many, drawn by --seed.",
        shown="all",
        least=0,
        most=2**53,
        also=("utterances",),
    )
    skip_damaged: bool = option(False, "Leave out images that cannot be decoded.", free=True)
    epochs: int = option(
        0, "How long to train, in passes over the data.", least=0, most=2**53, free=True
    )
    steps: int = option(
        0,
        "How long, in batches; wins over --epochs.",
        shown="a first look: "
        + ", ".join(f"{k.first_look['steps']} of {k.example}s" for k in STIMULI.values()),
        least=0,
        most=2**53,
        free=True,
    )
    batch: int = option(
        0,
        "Examples in a batch.",
        least=0,
        most=10**7,
        shown=", ".join(f"{kind.usual['batch']} {kind.example}s" for kind in STIMULI.values()),
    )
    width: float = option(1.0, "Multiplies every layer's neurons.", most=1000)
    layers: int = option(0, "Only the first so many layers.", shown="all", least=0, most=10**6)
    modules: str = option(
        "",
        "layers, 1, a split of the network (vgg6: 2, 3, 4-lower, 4-upper, 6; "
        "resnet50: 3, 13; audio: 5, 6), or layers for each such as 3+1+1+1.",
        shown="the rule's",
    )
    credit: str = option(
        "",
        "How a GRU's signals find earlier steps: eprop, bptt or none.",
        shown="eprop",
        choices=("", *CREDITS),
    )
    below_gru: str = option(
        "",
        "What the layer below a GRU learns from: both, its own loss and "
        "the GRU's; gru, the latter alone.",
        shown="both",
        choices=("", "both", "gru"),
    )
    norm: str = option(
        "",
        "Batch normalisation by the statistics of the batch, or by running ones as constants.",
        shown="the network's, batch",
        choices=("", "batch", "running"),
    )
    norm_order: str = option(
        "",
        "relu-norm: ReLU before the norm, as the published video code has it; norm-relu: after it.",
        shown="the network's, relu-norm",
        choices=("", "relu-norm", "norm-relu"),
    )
    lr: float = option(
        0.0, "Learning rate.", shown="the rule's, 2e-4 with Adam", least=0, most=1e30
    )
    optimiser: str = option(
        "", "adam or plain, W += lr dW.", shown="the rule's", choices=("", "adam", "plain")
    )
    weight_decay: float = option(
        0.0, "Part of every weight taken from its dW, as torch's Adam has it.", least=0, most=1e30
    )
    schedule: str = option(
        "constant",
        "How the rate changes: constant; step, by --schedule-factor at --schedule-at; or cosine, "
        "to 0 at the run's last step.",
        choices=("constant", "step", "cosine"),
    )
    warm_up: int = option(
        0, "The rate rises linearly over so many steps.", shown="none", least=0, most=2**53
    )
    schedule_at: str = option("", "After which steps the rate falls, such as 1000,2000.")
    schedule_factor: float = option(0.1, "What it is multiplied by there.", least=0, most=1e30)
    schedule_steps: int = option(
        0, "Where the cosine comes to 0.", shown="the run's last step", least=0, most=2**53
    )
    stop_early: int = option(
        0,
        "End the run when the mean loss over so many steps has not fallen below the lowest such "
        "mean before.",
        shown="never",
        least=0,
        most=2**53,
        free=True,
    )
    seed: int = option(0, "Same seed, same machine, same numbers.", least=0, most=2**64 - 1)
    dtype: str = option("float32", "float32 or float64.", choices=("float32", "float64"))
    precision: str = option(
        "float32",
        "float32; or tf32 or bfloat16: operands of convolutions, forwards, of dW and of errors, "
        "rounded to 10 or 7 bits of mantissa and summed in float32, as matrix units do. The rule, "
        "weights and the optimiser stay in float32.",
        choices=tuple(PRECISIONS),
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N.", free=True)
    graph: str = option(
        "auto",
        "On a GPU, take a step as one CUDA graph: auto, where rules and layers are this package's; "
        "on, with one's own too; or off. The numbers are the same.",
        choices=("auto", "on", "off"),
        free=True,
    )
    checkpoint_minutes: float = option(
        5.0, "Save the run every so often.", least=0, most=1e9, free=True
    )
    keep_every: int = option(
        0,
        "Keep a checkpoint of every so many steps, and of the start, in the folder's checkpoints/.",
        shown="none",
        least=0,
        most=2**53,
        free=True,
    )
    keep_weights: int = option(
        0,
        "Keep the weights alone of every so many steps, and of the start, in the folder's "
        "weights.h5: an array over steps for each parameter, compressed.",
        shown="none",
        least=0,
        most=2**53,
        free=True,
    )
    keep_dtype: str = option(
        "",
        "Of --keep-weights: float16, float32 or float64.",
        shown="as --dtype",
        choices=("", "float16", "float32", "float64"),
        free=True,
    )
    best_by: str = option(
        "",
        "At the end probe every step that was kept, by --keep-every or --keep-weights, and name "
        "the best: by the accuracy of this layer, by the mean over layers, or by the best of any.",
        shown="not asked",
        free=True,
    )
    tensorboard: bool = option(
        False, "Write what is measured for TensorBoard too, into the run's tensorboard/.", free=True
    )
    probe: bool = option(True, "Measure the layers at the end.", off="no-probe", free=True)
    probe_train: int = option(
        600, "Labelled examples to fit the probe.", least=0, most=2**53, free=True
    )
    probe_test: int = option(400, "Labelled examples to test it.", least=0, most=2**53, free=True)
    record: str = option(
        "",
        "Record updates and their factors into record.h5 of the run folder: "
        "for each layer layer=NUMBER or *, then synapse=POST:PRE:ROW:COL, "
        "random=COUNT, neurons=FIRST:LAST, all, prediction=K:J:I and retro=K:I:J "
        "(entries of W_pred and W_retro), NAME=I:J:... (of any parameter that the "
        "rule keeps), weights; for example "
        "'layer=4,synapse=3:1:0:2;layer=1,neurons=0:8'. Open gates and the "
        "alignment of W_pred and W_retro come with it.",
        free=True,
    )
    record_every: int = option(10, "Record one step of so many.", most=2**53, free=True)
    set: dict[str, str] = field(default_factory=dict)
    layer: dict[str, dict[str, object]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    changes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "layer":
                check_type(name, value)
        object.__setattr__(self, "layer", sections.checked(self.layer))
        for name in ("rule", "net"):
            if plugins.is_file(getattr(self, name)):
                object.__setattr__(self, name, plugins.absolute(getattr(self, name)))
        for path in self.code:
            if path not in self.files:  # named now, and so agreed to
                object.__setattr__(self, "files", {**self.files, path: plugins.digest(path)})
                trust.agree(self.files[path])
        if self.precision != "float32" and self.dtype != "float32":
            raise UserError(
                f"--precision {self.precision} rounds operands of float32, and --dtype "
                f"{self.dtype} is there to round less: leave one of them out"
            )
        if self.keep_dtype and not self.keep_weights:
            raise UserError(
                "--keep-dtype is of the weights that --keep-weights N keeps: name N too"
            )
        if self.best_by and not (self.keep_every or self.keep_weights):
            raise UserError(
                f"--best-by {self.best_by} chooses among steps that were kept: name --keep-every N "
                "or --keep-weights N too"
            )
        object.__setattr__(self, "data", absolute(self.data))
        if self.init:
            path = os.path.abspath(os.path.expanduser(self.init))
            object.__setattr__(self, "init", path)
        if self.data_dir:
            path = os.path.abspath(os.path.expanduser(self.data_dir))
            object.__setattr__(self, "data_dir", path)
        object.__setattr__(self, "set", {name: str(value) for name, value in self.set.items()})
        for name, said in fields.declared(RunOptions).items():
            value, given = getattr(self, name), OF_RULES.get(name)
            if given is None:
                said.check(dashed(name), value)
            elif value != given.unset:  # its choices are the rule's affair
                said = replace(said, choices=tuple(said.words or ()))
                said.check(dashed(name), value)

    @property
    def code(self) -> list[str]:
        """The files that the options name as rules and network."""
        named = (self.rule, self.net, *sections.files(self.layer))
        return list(dict.fromkeys(name for name in named if plugins.is_file(name)))

    def network(self) -> Network:
        """The network, checked against what it will be fed with."""
        network, stimulus = self._network, self.unfed
        if network.layers[0].inputs != stimulus.channels and self._asks("channels"):
            network = self._built(channels=stimulus.channels)
        network.shapes(stimulus.space)
        first = network.layers[0]
        if first.inputs != stimulus.channels:
            raise UserError(
                f"layer {first.name} of {network.name} takes inputs of {first.inputs} channels, "
                f"and there are {stimulus.channels} of {stimulus.name} here; a network that can "
                "take both has build(width, channels)"
            )
        return network

    @cached_property
    def _network(self) -> Network:
        return self._built()

    def _asks(self, name: str) -> bool:
        """Whether what builds the network takes a further argument."""
        return name in signature(networks.find(self.net, self.files.get(self.net, ""))).parameters

    def _built(self, **how: object) -> Network:
        bound = self.files.get(self.net, "")
        network = networks.get(self.net, bound, width=self.width, **how)
        network = network.first(self.layers) if self.layers else network
        recurrent = any(layer.recurrent for layer in network.layers)
        for name in ("credit", "below_gru"):
            if getattr(self, name) and not recurrent:
                raise UserError(
                    f"{dashed(name)} has no meaning for {network.name}: it has no recurrent layer"
                )
        for name in ("norm", "norm_order"):
            if getattr(self, name) and not any(
                getattr(conv, "normalised", False) for conv in network.convolutions
            ):
                raise UserError(
                    f"{dashed(name)} has no meaning for {network.name}: it normalises nothing"
                )
        network = network.with_norm(self.norm, self.norm_order)
        if self.precision != "float32":
            rounding = network.with_precision(self.precision)
            if rounding == network:
                raise UserError(
                    f"--precision {self.precision} has no meaning for {network.name}: it has no "
                    "convolution"
                )
            network = rounding
        return network.with_credit(self.credit) if self.credit else network

    @cached_property
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
        own = {}
        for name, given in OF_STIMULI.items():
            if kind in given.of:
                own[given.name] = given.value(getattr(self, name))
            elif getattr(self, name) != given.unset:
                raise UserError(
                    f"{dashed(name)} is for {given.of[0].name}, and {network.name} is for "
                    f"{kind.name}"
                )
        return kind(None, **own)

    @property
    def size(self) -> int:
        """Examples in a batch."""
        return self.batch or self.unfed.usual["batch"]

    def rule_class(self) -> type:
        """The class of the rule."""
        return rules.find(self.rule, self.files.get(self.rule, ""))

    @property
    def taught(self) -> str:
        """The first rule of the run that learns from labels; empty where none does."""
        if reads_labels(self.rule_class()):
            return self.rule
        for layer, own in self.layer.items():
            name = str(own.get("rule", self.rule))
            with sections.said_of(layer):
                if reads_labels(rules.find(name, self.files.get(name, ""))):
                    return name
        return ""

    def rule_object(self) -> Rule:
        """The rule with its options, and the number of classes if it reads labels.

        One that is not of this package is checked.

        Raises:
            UserError: an option that has no meaning for the rule, or a rule that is incomplete.
        """
        cls = self.rule_class()
        known = rule_check.takes(cls)
        own: dict[str, object] = {}
        if reads_labels(cls):
            own["classes"] = len(sets.learning_set(self).classes)
        for flag, given in OF_RULES.items():
            value, name = getattr(self, flag), given.name
            if value == given.unset:  # not asked for: the rule's own
                continue
            own[name] = given.value(value)
            if name not in known:
                flag = given.said.off if value is False else flag
                who = plugins.short(self.rule)
                raise UserError(
                    f"{dashed(flag)} has no meaning for the rule {who}: it is for "
                    f"{', '.join(n for n in rules.RULES if _takes(n, name, own[name]))}, and "
                    f"{who} takes {rule_check.in_words(cls)}"
                )
        for name, value in self.unfed.usual.items():  # what suits the stimulus, if not asked for
            name = OF_RULES[name].name if name in OF_RULES else name
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
        for flag, given in OF_RULES.items():
            kind = bool if given.said.words else type(given.unset)
            if takes.get(given.name) is kind:  # a rule of one's own may mean something else by it
                own[flag] = given.told(getattr(rule, given.name))
        used = {
            **own,
            "lr": self.lr or rule.rate,
            "optimiser": self.optimiser or rule.optimiser,
            "modules": self.split_of(rule, network),
            "batch": self.size,
            "layers": len(network.layers),
            "layer": sections.resolved(self, network),
        }
        if images and self.schedule == "cosine":
            used["schedule_steps"] = self.schedule_object(images).steps
        return self.changed(**used | ({"steps": self.total_steps(images)} if images else {}))

    def schedule_object(self, images: int = 0) -> Schedule:
        """How the rate changes.

        Args:
            images: how many there are to learn from, which a length in epochs needs.

        Raises:
            UserError: options that do not go together.
        """
        told = [part.strip() for part in self.schedule_at.split(",") if part.strip()]
        if not all(part.isdigit() and 0 < int(part) <= 2**53 for part in told):
            raise UserError(
                f"--schedule-at {self.schedule_at}: expected steps such as 1000,2000, from 1 on"
            )
        if bool(told) != (self.schedule == "step"):
            raise UserError(
                "--schedule step needs --schedule-at, the steps after which the rate falls, such "
                "as 1000,2000"
                if self.schedule == "step"
                else f"--schedule-at is for --schedule step, and here it is {self.schedule}"
            )
        if self.schedule_factor != RunOptions.schedule_factor and self.schedule != "step":
            raise UserError(
                f"--schedule-factor is for --schedule step, and here it is {self.schedule}"
            )
        if self.schedule_steps and self.schedule != "cosine":
            raise UserError(
                f"--schedule-steps is for --schedule cosine, and here it is {self.schedule}"
            )
        total = self.total_steps(images)
        end = self.schedule_steps or total
        if self.schedule == "cosine" and end < total:
            raise UserError(
                f"the cosine comes to 0 at step {end}, and the run would go on to {total} at a "
                "rate of 0: take --schedule-steps of at least that, or fewer --steps"
            )
        if self.schedule == "cosine" and self.warm_up >= end:
            raise UserError(
                f"--warm-up {self.warm_up} leaves nothing of the cosine, which ends at step {end}: "
                "take a shorter one"
            )
        at = tuple(sorted({int(part) for part in told}))
        return Schedule(self.schedule, self.warm_up, at, self.schedule_factor, end)

    def total_steps(self, images: int) -> int:
        """How many steps the run has over a set of so many images."""
        if self.steps:
            return self.steps
        return self.epochs * (images // self.size) or self.unfed.first_look["steps"]

    def first_look(self, asked: Container[str] = ()) -> dict[str, object]:
        """What a run that is told no length takes instead of its options: see `Stimulus`.

        Args:
            asked: options that were given, and stay.
        """
        if self.steps or self.epochs:
            return {}
        return {n: v for n, v in self.unfed.first_look.items() if n not in asked}

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
        if unknown := set(stored) - set(cls.__dataclass_fields__):
            raise UserError(f"unknown options in the run: {', '.join(sorted(unknown))}")
        for name, value in stored.items():
            check_type(name, value)
        named = [(kind, stored.get(kind, "")) for kind in ("rule", "net")]
        named += [("rule", path) for path in sections.files(stored.get("layer", {}))]
        for kind, path in named:
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
                f"{dashed(name)} {value} would make another run: this one began with {stored}"
                + (", which had another text" if plugins.is_file(value) else "")
            )
        files = {value if path == stored else path: sha for path, sha in self.files.items()}
        return self.changed(**{name: value, "files": files})

    def changed(self, **values: object) -> "RunOptions":
        """A copy with other values."""
        return replace(self, **values)


def free() -> set[str]:
    """The options that may differ between a run and its resumption."""
    return {name for name, said in fields.declared(RunOptions).items() if said.free}


def check_type(name: str, value: object) -> None:
    """Refuse an option of another type than its default's, from a file; a text for others.

    Raises:
        UserError: what was expected.
    """
    kind = dict if name in BOUND else type(getattr(RunOptions, name, ""))
    truth = isinstance(value, bool)
    if kind is float:
        fits = isinstance(value, Real) and not truth and math.isfinite(value)
    elif kind is int:
        fits = isinstance(value, Integral) and not truth
    elif kind is dict:
        values = {"set": str | bool | Real, "layer": dict}.get(name, str)
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
