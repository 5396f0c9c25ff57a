"""The networks, a file for each, and the way from a name to a network."""

from difflib import get_close_matches
from importlib import import_module

from plasticity.errors import UserError
from plasticity.network import Network

NETWORKS = {"vgg6": "vgg6"}  # name -> module


def get(name: str, **options: object) -> Network:
    """The network called `name`.

    Raises:
        UserError: an unknown network (with the nearest name), or an option out of range.
    """
    if name not in NETWORKS:
        near = get_close_matches(name.lower().replace("-", ""), NETWORKS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known networks: {', '.join(NETWORKS)}"
        raise UserError(f"unknown network '{name}': {hint}")
    return import_module(f"plasticity.networks.{NETWORKS[name]}").build(**options)
