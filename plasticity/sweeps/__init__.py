"""Many runs of one's own: a file names them, joblib carries them out, tables tell what came of it.

`sweep` is what is asked for, `file` reads it, `experiments` makes one run and resumes it, `work`
carries out many, `results` compares what was measured over seeds.
"""

from plasticity.sweeps.experiments import PROTOCOLS, Experiment, carry_out
from plasticity.sweeps.file import NAME, check_folder, made, parse, read
from plasticity.sweeps.sweep import LENGTH, Compare, Probe, Row, Sweep
from plasticity.sweeps.tables import Measure
from plasticity.sweeps.work import DONE, Work, carry_out_all, usual_jobs

__all__ = [
    "DONE",
    "LENGTH",
    "NAME",
    "PROTOCOLS",
    "Compare",
    "Experiment",
    "Measure",
    "Probe",
    "Row",
    "Sweep",
    "Work",
    "carry_out",
    "carry_out_all",
    "check_folder",
    "made",
    "parse",
    "read",
    "usual_jobs",
]
