"""The same losses in torch, with autograd: what the explicit rules are tested against.

Nothing here is used to learn. The functions take the project's arrays (NumPy) and give back minus
the gradient, which is what dW must be.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plasticity.errors import UserError, installs
from plasticity.events import AllPairs, Events, Layout
from plasticity.learning import Loss, Modules, Reading, keys, layerwise, needed, rules_own
from plasticity.network import Network, Parameters
from plasticity.rule import Draw

try:
    import torch
    import torch.nn.functional as F  # noqa: N812
    from torch import Tensor
except ImportError as error:
    raise UserError(
        f"the reference needs torch ({installs('verify')}); or, without it, "
        "'plasticity verify --method finite-difference'"
    ) from error

Own = dict[str, Tensor]
"""A layer's parameters by name."""


@dataclass(frozen=True)
class Groups:
    """InfoNCE's comparisons at prediction step `k`: each context chooses among 1 + N targets.

    `context` and `positive` are patches, `(M,)` int, `negatives` `(M, N)` int; `weight (M,)` turns
    the sum over groups into the average over contexts and prediction steps.
    """

    k: int
    context: np.ndarray
    positive: np.ndarray
    negatives: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Everyone:
    """Every context with every target at prediction step `k`, the true ones on the diagonal.

    `contexts` and `targets` are the rows of both; the weights `(n,)` of the true pair and of each
    of the others turn sums over pairs into averages.
    """

    k: int
    contexts: slice
    targets: slice
    true: np.ndarray
    other: np.ndarray

    @property
    def label(self) -> np.ndarray:
        return 2 * np.eye(len(self.true)) - 1

    @property
    def weight(self) -> np.ndarray:
        weight = np.repeat(self.other[:, None], len(self.other), axis=1)
        np.fill_diagonal(weight, self.true)
        return weight


def torch_draw(draw: Draw) -> Draw:
    """The same draw as tensors, for a rule that states its loss in array operations."""

    def tensors(event: Events | AllPairs) -> Events | AllPairs:
        arrays = {n: w for n, w in vars(event).items() if isinstance(w, np.ndarray)}
        return replace(event, **{n: torch.as_tensor(w) for n, w in arrays.items()})

    pred, retro = (half and tuple(map(tensors, half)) for half in (draw.pred, draw.retro))
    labels = None if draw.labels is None else torch.as_tensor(draw.labels)
    return replace(draw, pred=pred, retro=retro, labels=labels)


def encodings(
    network: Network,
    modules: Modules,
    params: dict[str, Own],
    patches: Tensor,
    reads: str = "encoding",
    reading: Reading | None = None,
    also: Collection[int] = (),
    inputs: dict[int, Tensor] | None = None,
) -> dict[int, Tensor]:
    """Encodings `(N, D)` at the top of every module, by layer, from inputs `(M, C, *space)`.

    They are spatial means, or the maps `(N, *space, D)` that `reads` names, or where `reading` has
    time in the maps every frame. The gradient flows through the layers of a module and stops at its
    input.

    Args:
        also: layers below the top of a module whose encodings are wanted too.
        inputs: gets the inputs of these layers, `(M, *space, C)`, without a gradient.
    """
    x, found = patches, {}
    for module in modules:
        x = x.detach()
        for i in module:
            layer, met = network.layers[i], x
            x = layer.in_torch(F, met, params)
            if i != module[-1] and i not in also:
                continue
            if inputs is not None:
                inputs[i] = met.detach().movedim(1, -1)
            y = x
            if reads in ("places", "potential"):
                y = layer.unpooled(reads == "potential").in_torch(F, met, params)
            keeps = reads != "encoding"
            if reading is not None and reading.time == "map":
                y = y.movedim(2, 0).flatten(0, 1)  # frames first, then samples
                keeps |= reading.positions == "keep" or y.ndim == 2
            found[i] = y.movedim(1, -1) if keeps else y.flatten(2).mean(2)
    return found


Compared = Events | Groups | Everyone


def score(learner: Tensor, W: Tensor, other: Tensor, event: Compared) -> Tensor:
    """`u = learner^T W other`, `z^T W_pred c` or `c^T W_retro z`, over positions and neurons.

    Events have one axis, comparisons within groups or of all with all two.
    """
    axes = 1 if isinstance(event, Events) else 2
    learner, signal = (a.flatten(axes) for a in (learner, other @ W.T))
    return torch.einsum("...d,...d->...", learner, signal)


def compared(z: Tensor, event: Compared, source: Tensor) -> tuple[Tensor, Tensor]:
    """The targets and contexts of events `(E, ...)`; groups have contexts `(M, 1, ...)` and targets
    `(M, 1 + N, ...)`, the positive one first, and all with all `(n, 1, ...)` and `(1, n, ...)`."""
    if isinstance(event, Everyone):
        return z[event.targets][None], source[event.contexts][:, None]
    if isinstance(event, Groups):
        targets = np.concatenate([event.positive[:, None], event.negatives], axis=1)
        return z[targets], source[event.context][:, None]
    return z[event.target], source[event.context]


def hinge(u: Tensor, events: Events) -> Tensor:
    """Eq. (3), averaged: `sum over events of weight * max(0, 1 - y u)`.

    Where `1 - y u` is exactly 0 torch's ReLU has slope 0: the gate is closed.
    """
    y, weight = torch.as_tensor(events.label), torch.as_tensor(events.weight)
    return (weight * F.relu(1 - y * u)).sum()


def ungated(u: Tensor, events: Events) -> Tensor:
    """The loss whose gradient has gamma = y: `-y u`, averaged."""
    return -(torch.as_tensor(events.label * events.weight) * u).sum()


def info_nce(u: Tensor, groups: Groups | Everyone, eps: float) -> Tensor:
    """`-log(softmax + eps)` of the positive score, averaged: the first of `u (M, 1 + N)` of groups,
    the diagonal of `u (n, n)` where all are compared with all.

    van den Oord, Li & Vinyals 2018, Eq. (4); the published code has `eps` = 1e-11.
    """
    everyone, pi = isinstance(groups, Everyone), torch.softmax(u, 1)
    probability = pi.diagonal() if everyone else pi[:, 0]
    weight = torch.as_tensor(groups.true if everyone else groups.weight)
    return -(weight * torch.log(probability + eps)).sum()


def clapp_loss(
    z: Tensor,
    own: Own,
    draw: Draw,
    above: Tensor | None = None,
    *,
    symmetric: bool,
    gate: str,
    block_grad: bool,
) -> Tensor:
    """Eq. (3), (13) to (16) on encodings `(N, D)`: one score, or `L_z + L_c`.

    Contexts are encodings of the same layer, or those of a layer `above` `(N, C)`.

    With separate halves `L_z` changes the target alone and `L_c` the context alone; the factor 1/2
    of Eq. (14) is left out, as in the published code. A draw without a retro half (symmetric,
    blocked or with a shared gate) gives the loss of W_pred's score alone.
    """
    average, source = ungated if gate == "off" else hinge, z if above is None else above
    total = z.new_zeros(())
    for pred in draw.pred:
        t, c = compared(z, pred, source)
        if block_grad or not symmetric:
            c = c.detach()
        total = total + average(score(t, own["W_pred"][pred.k - 1], c, pred), pred)
    if symmetric or block_grad:
        return total
    for retro in draw.retro or ():
        t, c = compared(z.detach(), retro, source)
        total = total + average(score(c, own["W_retro"][retro.k - 1], t, retro), retro)
    return total


def clapp_surrogate(
    z: Tensor,
    own: Own,
    draw: Draw,
    above: Tensor | None = None,
    *,
    symmetric: bool,
    gate: str,
    block_grad: bool,
    dendrites: bool,
) -> Tensor:
    """What stands in for a loss where the rule is the gradient of none.

    These are the shared gate, Eq. (17), where W_pred's score gates the context role of W_retro
    too, and the variant without dendritic input, where the dendritic factor of every neuron is
    replaced by 1. The function is linear in whatever learns: gamma is computed first and held
    fixed, then `-gamma * (W_pred c)^T z` is summed over target roles with c detached, and
    `-gamma * (W_retro z)^T c` over context roles with z detached; without dendritic input they
    are `-gamma * sum_j z_j` and `-gamma * sum_j c_j`, and W_pred and W_retro learn by Eq. (8) all
    the same.
    """

    def gamma(u: Tensor, events: Events | Everyone) -> Tensor:
        y, weight = torch.as_tensor(events.label), torch.as_tensor(events.weight)
        surprise = torch.ones_like(u) if gate == "off" else (1 - y * u > 0).to(u.dtype)
        return y * surprise * weight

    def role(learner: Tensor, W: Tensor, other: Tensor, event: Compared) -> Tensor:
        if dendrites:
            return score(learner, W, other.detach(), event)
        axes = 1 if isinstance(event, Events) else 2
        u = score(learner.detach(), W, other.detach(), event)
        return learner.flatten(axes).sum(-1) + u

    total, source = z.new_zeros(()), z if above is None else above
    for i, pred in enumerate(draw.pred):
        t, c = compared(z, pred, source)
        W_pred = own["W_pred"][pred.k - 1]
        with torch.no_grad():
            gates = gamma(score(t, W_pred, c, pred), pred)
        total = total - (gates * role(t, W_pred, c, pred)).sum()
        if block_grad:
            continue
        # The symmetric pair is one matrix, and it has learned in the target role.
        W_retro = W_pred.T.detach() if symmetric else own["W_retro"][pred.k - 1]
        retro = pred if draw.retro is None else draw.retro[i]
        if draw.retro is not None:
            t, c = compared(z, retro, source)
            with torch.no_grad():
                gates = gamma(score(c, W_retro, t, retro), retro)
        total = total - (gates * role(c, W_retro, t, retro)).sum()
    return total


def info_nce_loss(
    z: Tensor,
    own: Own,
    draw: Draw,
    above: Tensor | None = None,
    *,
    symmetric: bool,
    block_grad: bool,
    eps: float,
) -> Tensor:
    """InfoNCE on encodings `(N, D)`; the halves of `draw` hold `Groups`, or `Everyone`; else as
    `clapp_loss`."""
    total, source = z.new_zeros(()), z if above is None else above
    for pred in draw.pred:
        t, c = compared(z, pred, source)
        if block_grad or not symmetric:
            c = c.detach()
        total = total + info_nce(score(t, own["W_pred"][pred.k - 1], c, pred), pred, eps)
    if symmetric or block_grad:
        return total
    for retro in draw.retro:
        t, c = compared(z.detach(), retro, source)
        total = total + info_nce(score(c, own["W_retro"][retro.k - 1], t, retro), retro, eps)
    return total


def cross_entropy(z: Tensor, own: Own, draw: Draw, layout: Layout) -> Tensor:
    """`-log softmax` of the label's score, averaged over images or labelled frames.

    The scores are those of a linear readout of the mean over the patch encodings of an image, or,
    with labels `(T, B)`, of every frame.
    """
    labels = torch.as_tensor(draw.labels)
    read = z if labels.ndim == 2 else z.unflatten(0, layout.shape).mean((0, 2))
    scores = F.linear(read, own["W_readout"], own["b_readout"])
    return F.cross_entropy(scores, labels.flatten(), ignore_index=-1)


def negative_gradients(
    network: Network,
    modules: Modules | None,
    params: Parameters,
    patches: np.ndarray,
    layout: Layout,
    draws: Sequence[Draw],
    learn_prediction: bool = True,
    *,
    loss: str | Callable[..., Tensor] = "hinge",
    reads: str = "encoding",
    needs: Collection[str] = (),
    symmetric: bool = False,
    gate: str = "own",
    block_grad: bool = False,
    dendrites: bool = True,
    context: str = "same",
    eps: float = 1e-11,
    losses: Sequence[Loss] | None = None,
    names: Sequence[str] | None = None,
    reading: Reading | None = None,
) -> tuple[list[float], Parameters]:
    """Losses of all modules, and minus their gradients, by autograd.

    Args:
        modules: layer numbers of each module; None makes every layer one of its own.
        params: `weight (O, C, *kernel)`, `bias (O,)` and, at the top of a module,
            `W_pred (K, D, D)` [k, target neuron, context neuron] and `W_retro` the other way round.
        patches: `(N, *space, C)` in the order of `layout`.
        draws: one for each module, of `Events` for hinge, of `Groups` for InfoNCE, with labels
            for cross entropy.
        learn_prediction: False freezes W_pred and W_retro; they get no entry.
        loss: `hinge`, `infonce` or `cross_entropy` (draws with labels, `W_readout (C, D)` and
            `b_readout (C,)` at the top of a module, no variants), or a rule's `objective`, with
            draws from `torch_draw`; eps: the constant in InfoNCE's logarithm.
        reads, needs: what an objective is a function of, see `Rule.reads` and `Rule.needs`.
        symmetric: `W_retro = W_pred^T`; gate: `own`, `shared` or `off`; block_grad: Eq. (13);
            dendrites: False puts 1 for every dendritic signal; context: `same`, or `above` for
            contexts of the module above (the last is its own); the gradient of each loss stops at
            the inputs of both modules.
        losses: what is predicted from what, by default one for each module by `context`; names:
            under which their parameters are kept, by default `learning.keys`.
        reading: how maps become encodings, by default their means.

    Returns:
        The losses, those of `clapp_loss` and `info_nce_loss` in every variant, and the changes by
        layer and parameter, in the shapes and dtypes of `params`; what nothing changes has no
        entry.

    Raises:
        UserError: variants that do not go together, or arrays and draws that do not fit.
    """
    modules = layerwise(network) if modules is None else modules
    if losses is None:
        last, up = len(modules) - 1, int(context == "above")
        losses = [Loss(m, min(m + up, last)) for m in range(last + 1)]
    if reading is None and len(patches) != layout.rows:
        raise UserError(f"got {len(patches)} patches, the layout has {layout.rows}")
    _check(losses, draws, loss, symmetric, gate, block_grad, dendrites)
    tensors = {
        layer: {name: torch.tensor(w, requires_grad=True) for name, w in own.items()}
        for layer, own in params.items()
    }
    x = torch.tensor(np.moveaxis(patches, -1, 1).copy())
    shape = {"symmetric": symmetric, "block_grad": block_grad}
    ends = {end for of in losses for end in of.ends(modules)}
    met: dict[int, Tensor] = {}
    found = encodings(network, modules, tensors, x, reads, reading, ends, met)
    values, whole = [], x.new_zeros(())
    names = keys(network, modules, losses) if names is None else names
    for number, (name, draw) in enumerate(zip(names, draws, strict=True)):
        of, own = losses[number], tensors[name]
        target, source = of.ends(modules)
        z = found[target].detach() if of.blocked else found[target]
        above = found[source] if of.crosses else None
        here = replace(layout, time=len(z) // (layout.samples * layout.lanes))
        if callable(loss):
            unit = network.layers[target].convolutions[-1].name
            top = rules_own(own) | needed(needs, tensors[unit], met[target])
            held = () if above is None else (above, above.detach())
            value = objective = loss(z, z.detach(), top, draw, here, *held)
        elif loss == "cross_entropy":
            value = objective = cross_entropy(z, own, draw, here)
        elif loss == "infonce":
            value = objective = info_nce_loss(z, own, draw, above, **shape, eps=eps)
        else:
            value = objective = clapp_loss(z, own, draw, above, **shape, gate=gate)
            no_loss = not dendrites or (gate == "shared" and not symmetric)
            if no_loss:
                how = {**shape, "gate": gate, "dendrites": dendrites}
                objective = clapp_surrogate(z, own, draw, above, **how)
        whole = whole + objective
        values.append(value.item())
    if whole.requires_grad:
        whole.backward()
    frozen = () if learn_prediction else ("W_pred", "W_retro")
    return values, {
        layer: {
            name: -w.grad.numpy()
            for name, w in own.items()
            if name not in frozen and w.grad is not None
        }
        for layer, own in tensors.items()
    }


def _check(
    losses: Sequence[Loss],
    draws: Sequence[Draw],
    loss: str | Callable[..., Tensor],
    symmetric: bool,
    gate: str,
    block_grad: bool,
    dendrites: bool,
) -> None:
    if not callable(loss) and loss not in ("hinge", "infonce", "cross_entropy"):
        raise UserError(f"unknown loss '{loss}': expected hinge, infonce or cross_entropy")
    if gate not in ("own", "shared", "off"):
        raise UserError(f"unknown gate '{gate}': expected own, shared or off")
    if loss == "infonce" and (gate != "own" or not dendrites):
        raise UserError(
            "the InfoNCE loss has no gate to share or switch off and keeps its dendritic input: "
            "leave gate='own' and dendrites=True, or take loss='hinge'"
        )
    if len(draws) != len(losses):
        raise UserError(f"got {len(draws)} draws for {len(losses)} losses: one each is needed")
    if loss == "cross_entropy" and any(draw.labels is None for draw in draws):
        raise UserError("cross entropy needs the labels of the images in every draw")
    separate = not symmetric and not block_grad and gate != "shared" and loss != "cross_entropy"
    separate = separate and not callable(loss)
    if separate and any(draw.retro is None for draw in draws):
        raise UserError(
            "with gates of their own W_pred and W_retro need a draw each, and a draw has no retro "
            "half: add it, or take symmetric=True, block_grad=True or gate='shared'"
        )
