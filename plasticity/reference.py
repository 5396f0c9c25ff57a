"""The same losses in torch, with autograd: what the explicit rules are tested against.

Nothing here is used to learn. The functions take the project's arrays (NumPy) and give back minus
the gradient, which is what dW must be.
"""

from collections.abc import Sequence

import numpy as np

from plasticity.errors import UserError
from plasticity.events import Events, Layout
from plasticity.learning import Modules
from plasticity.network import Conv, Network, Parameters
from plasticity.rule import Draw

try:
    import torch
    import torch.nn.functional as F  # noqa: N812
except ImportError as error:
    raise UserError("the reference needs torch: pip install 'plasticity[verify]'") from error


def layer_maps(layer: Conv, x: "torch.Tensor", own: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Convolution, ReLU and MaxPool, maps in torch's order `(N, C, *space)`."""
    dims = len(layer.kernel)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]
    y = F.relu(convolve(x, own["weight"], own["bias"], layer.stride, layer.padding))
    return y if layer.pool == 1 else pool(y, layer.pool)


def hinge(u: "torch.Tensor", events: Events) -> "torch.Tensor":
    """Eq. (3), averaged: `sum over events of weight * max(0, 1 - y u)`."""
    y, weight = torch.as_tensor(events.label), torch.as_tensor(events.weight)
    return (weight * F.relu(1 - y * u)).sum()


def ungated(u: "torch.Tensor", events: Events) -> "torch.Tensor":
    """The loss whose gradient has gamma = y: `-y u`, averaged."""
    return -(torch.as_tensor(events.label * events.weight) * u).sum()


def clapp_loss(
    z: "torch.Tensor",
    own: dict[str, "torch.Tensor"],
    draw: Draw,
    *,
    symmetric: bool = False,
    gate: str = "own",
    block_grad: bool = False,
    dendrites: bool = True,
) -> "torch.Tensor":
    """What CLAPP descends, Eq. (3), (13) to (17), as a function of encodings `(N, D)`.

    With separate halves it is `L_z + L_c`, without Eq. (14)'s factor 1/2. A shared gate, and the
    variant without dendritic signals, are gradients of no loss: there the function is linear in
    what learns, with gamma held fixed.
    """
    loss_of = ungated if gate == "off" else hinge
    total = z.new_zeros(())
    for i, event in enumerate(draw.pred):
        W_pred = own["W_pred"][i]
        c, t = z[event.context], z[event.target]
        if symmetric and dendrites:
            total = total + loss_of(_score(t, W_pred, c.detach() if block_grad else c), event)
            continue
        if gate != "shared" and dendrites:
            total = total + loss_of(_score(t, W_pred, c.detach()), event)
            if not block_grad:
                retro = draw.retro[i]
                c, t = z[retro.context], z[retro.target]
                total = total + loss_of(_score(c, own["W_retro"][i], t.detach()), retro)
            continue
        # gamma by the definition, then a function with this gamma times each factor as slope.
        gamma = _gamma(_score(t, W_pred, c), event, gate)
        total = total - (gamma * _half(t, W_pred, c, dendrites)).sum()
        if block_grad:
            continue
        W_retro = W_pred.T if symmetric else own["W_retro"][i]
        if draw.retro is not None:
            event = draw.retro[i]
            c, t = z[event.context], z[event.target]
            gamma = _gamma(_score(c, W_retro, t), event, gate)
        # The symmetric pair has one matrix, which has learned above.
        total = (
            total
            - (gamma * _half(c, W_retro.detach() if symmetric else W_retro, t, dendrites)).sum()
        )
    return total


def _score(a: "torch.Tensor", W: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    return (a * (b @ W.T)).sum(1)


def _gamma(u: "torch.Tensor", event: Events, gate: str) -> "torch.Tensor":
    y, weight = torch.as_tensor(event.label), torch.as_tensor(event.weight)
    opened = torch.ones_like(u) if gate == "off" else (1 - y * u.detach() > 0).to(u.dtype)
    return y * opened * weight


def _half(
    learner: "torch.Tensor", W: "torch.Tensor", other: "torch.Tensor", dendrites: bool
) -> "torch.Tensor":
    """A function of `learner` and W whose slopes are the dendritic signal and the outer product."""
    if dendrites:
        return _score(learner, W, other.detach())
    return learner.sum(1) + _score(learner.detach(), W, other.detach())


def negative_gradients(
    network: Network,
    modules: Modules,
    params: Parameters,
    patches: np.ndarray,
    layout: Layout,
    draws: Sequence[Draw],
    learn_prediction: bool = True,
    **variant: object,
) -> tuple[list[float], Parameters]:
    """Losses of all modules, and minus their gradients, by autograd.

    Args:
        patches: `(N, *space, C)`; params and draws as `learning.updates` takes them.
        variant: as `clapp_loss` takes it.
    """
    own = {
        layer: {name: torch.tensor(w, requires_grad=True) for name, w in names.items()}
        for layer, names in params.items()
    }
    x = torch.as_tensor(np.moveaxis(patches, -1, 1).copy())
    losses = []
    for module, draw in zip(modules, draws, strict=True):
        x = x.detach()  # nothing flows from module to module
        for i in module:
            layer = network.layers[i]
            x = layer_maps(layer, x, own[layer.name])
        z = x.flatten(2).mean(2)
        loss = clapp_loss(z, own[layer.name], draw, **variant)
        loss.backward()
        losses.append(loss.item())
    frozen = () if learn_prediction else ("W_pred", "W_retro")
    return losses, {
        layer: {
            name: -w.grad.numpy()
            for name, w in names.items()
            if name not in frozen and w.grad is not None
        }
        for layer, names in own.items()
    }
