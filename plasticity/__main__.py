"""`python -m plasticity`."""

from plasticity.cli import main

main(prog_name="plasticity")
