"""`plasticity verify`."""

from pathlib import Path

import click
from plasticity.cli.options import (
    POSITIVE,
    Number,
    Output,
    Place,
    Sections,
    run_options,
    set_option,
    trust_option,
)

from plasticity.runs.options import OF_RULES, OF_STIMULI


@click.command(cls=Sections)
@click.argument("run", required=False, type=Place())
@click.option(
    "--rule",
    default="clapp",
    show_default=True,
    help="As in 'plasticity run', such as ./my_rule.py; with RUN, where its rule file is now.",
)
@run_options(
    (
        "net",
        "width",
        "layers",
        "modules",
        *OF_RULES,
        *(name for name in OF_STIMULI if name != "samples"),  # here of parameters
        "credit",
        "below_gru",
        "norm",
        "norm_order",
        "data",
        "data_dir",
        "dtype",
    ),
    width=0.1,
    dtype="float64",
)
@set_option
@click.option("--batch", type=POSITIVE, default=4, show_default=True, help="Images or utterances.")
@click.option(
    "--seeds", type=POSITIVE, default=2, show_default=True, help="How many seeds, from 0."
)
@click.option(
    "--gain",
    type=Number(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Multiplies fresh weights, so that gates are a mix of open and closed.",
)
@click.option(
    "--method",
    type=click.Choice(["torch", "finite-difference"]),
    default="torch",
    show_default=True,
    help="Autograd in float64, or central differences of sampled weights, without torch.",
)
@click.option(
    "--samples",
    type=POSITIVE,
    default=12,
    show_default=True,
    help="Of each parameter, for differences.",
)
@click.option(
    "--against",
    default="",
    help="cuda or cuda:N: the rule on the CPU beside the same rule on a GPU, in place of its loss.",
)
@click.option(
    "--tolerance",
    type=Number(0),
    help="On the relative error.  [default: 1e-10 in float64, 1e-4 in float32 and for differences]",
)
@click.option("--json", "json_path", type=Output(), help="Write all rows here.")
@click.option("--junit", "junit_path", type=Output(), help="JUnit XML, for CI.")
@trust_option
@click.pass_context
def verify(
    ctx: click.Context,
    run: Path | None,
    batch: int,
    seeds: int,
    gain: float,
    method: str,
    samples: int,
    against: str,
    tolerance: float | None,
    json_path: Path | None,
    junit_path: Path | None,
    trusted: bool,
    **values: object,
) -> None:
    """Does a rule do what it says? Its dW beside its loss, its locality, the sum of its events.

    \b
    - dW of every parameter of every layer beside minus the gradient of the rule's loss;
    - dW of sampled synapses of every layer beside the rule's equation for one synapse;
    - whether an update depends on what its stated locality excludes, by changing all of that;
    - whether the events that 'plasticity inspect' shows add up to dW, at drawn synapses.

    On fresh weights, or on those of RUN (with its own options). Exit status 1 if anything differs
    or depends, if a check proves nothing, as one on closed gates, or if the rule states neither a
    loss nor an equation for one synapse, so that there is nothing independent to compare with.
    """
    from click.core import ParameterSource
    from plasticity.cli.screens import verify as screen
    from plasticity.cli.screens.run import bars

    from plasticity import runs, trust, verification
    from plasticity.errors import UserError
    from plasticity.runs import lifecycle
    from plasticity.runs.options import RunOptions

    def given(name: str) -> bool:
        return ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE

    if run is not None:
        for name in (*(name for name in values if name not in ("rule", "data_dir")), "gain"):
            if given(name):
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} is for a fresh network: a run has its own options")
        rule = values["rule"] if given("rule") else None
        where = values["data_dir"] or None
        how = {"device": "cpu", "rule": rule, "data_dir": where, "trusted": trusted}
        states = [lifecycle.reopen(run, **how)] * seeds
        gain = 1.0
    else:
        options = RunOptions(batch=batch, device="cpu", **values)
        trust.named(options)
        states = [verification.fresh(options.changed(seed=seed)) for seed in range(seeds)]
    how = {"batch": batch, "gain": gain, "method": method, "samples": samples}
    with bars() as report:
        found = verification.verify(
            states, **how, against=against, tolerance=tolerance, report=report
        )
    screen.show(found)
    if json_path:
        runs.write_json(json_path, found.as_dict())
    if junit_path:
        runs.write_text(junit_path, found.junit())
    ctx.exit(0 if found.holds else 1)
