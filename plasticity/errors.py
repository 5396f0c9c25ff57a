"""The one error that a user can cause, and how to mend what is not installed."""

EXTRAS = {
    "gpu": "'cupy-cuda12x[ctk]'",
    "verify": "torch",
    "mpi": "mpi4py",
    "dask": "distributed",
    "plot": "scikit-learn jinja2",
    "video": "av",
    "sklearn": "scikit-learn",
    "tensorboard": "tensorboardX",
}
"""What an extra brings, as `pyproject.toml` has it, without versions."""


class UserError(Exception):
    """Bad input, said in one sentence: what was given, what was expected, how to mend it.

    The command line prints the sentence and exits with status 2.
    """


def installs(extra: str) -> str:
    """The commands that bring an extra, for a sentence that says what is missing."""
    return f"pip install '.[{extra}]' in the clone, or pip install {EXTRAS[extra]}"


class MissingError(UserError):
    """What a figure needs is not there; says why."""
