"""Options that several commands share."""

import click


def _read_set(
    ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, object]:
    """`name=value` as a dict; what a config file sets stays, unless it is set here."""
    found = dict(ctx.meta.get("set", {}))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            from plasticity.errors import UserError

            raise UserError(f"--set {pair}: expected name=value, such as --set tau=100")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


set_option = click.option(
    "--set",
    multiple=True,
    callback=_read_set,
    metavar="NAME=VALUE",
    help="A field of the rule that has no option here; may be repeated.",
)
