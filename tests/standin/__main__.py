"""`plasticity` on the stand-in, in a process of its own: `python -m tests.standin run ...`."""

from plasticity.cli import main

from tests import standin

with standin.installed(devices=2):
    main(prog_name="plasticity")
