"""`plasticity data`."""

import click


@click.command()
def data():
    pass
