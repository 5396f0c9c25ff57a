"""The networks, a file for each, and the way from a name to a network."""

from collections.abc import Callable
from importlib import import_module

from plasticity import plugins
from plasticity.errors import UserError
from plasticity.network import Network

NETWORKS = {  # name -> module
    "vgg6": "vgg6",
    "resnet50": "resnet50",
    "audio": "audio",
    "vgg5_video": "vgg5_video",
}


def find(name: str, bound: str = "") -> Callable[..., Network]:
    """What builds a network: of this package, of an installed one, or in a file.

    Args:
        name: as `NETWORKS` or the entry points `plasticity.networks` know it, or the path of a
            file with a function `build`; bound: the SHA-256 that the file must have.

    Raises:
        UserError: an unknown network (with the nearest name), or a file that builds none.
    """
    if name in NETWORKS:
        return import_module(f"plasticity.networks.{NETWORKS[name]}").build
    if plugins.is_file(name):
        return plugins.function_in(name, bound, "build")
    return plugins.installed("network", name, "plasticity.networks", NETWORKS)


def get(name: str, bound: str = "", **options: object) -> Network:
    """The network called `name`.

    Raises:
        UserError: as `find`, an option out of range, or what is built is no network.
    """
    build = find(name, bound)
    if name in NETWORKS:
        return build(**options)
    try:
        network = build(**options)
    except UserError:
        raise
    except Exception as error:
        path = plugins.split(name)[0]
        raise UserError(
            f"the network {name} cannot be built: {plugins.told(error, path)}; expected "
            "build(width) -> plasticity.network.Network"
        ) from error
    if not isinstance(network, Network):
        raise UserError(
            f"the network {name} is a {type(network).__name__}: build must return a "
            "plasticity.network.Network"
        )
    return network
