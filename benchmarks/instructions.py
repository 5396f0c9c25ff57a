"""What the CUDA kernels are made of: instructions and accesses of their machine code.

    python benchmarks/instructions.py [--architecture sm_90] [--only inputs]

NVRTC compiles (see `cuda_resources`), nvdisasm disassembles. Needs no card. Counts are of the code
as it stands, both sides of every branch, and what the compiler unrolls as often as it does; after a
slash those that lie within loops, between a backward branch and its target. What a call leads to
is not counted. Accesses are told as how many of how many bytes. The main loop is the innermost one
that moves most bytes, or the whole kernel where no loop moves any. Its bytes are those that a
thread reads and writes, also where caches or neighbours have them already; its instructions for
each say whether a card can keep up with its memory. An H100 has 3.35 TB/s for 132 multiprocessors
of 1.7 GHz, which issue four instructions of 32 threads at a time: 8.5 of a thread for each byte,
of integers half as many.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import cuda_resources
from plasticity.errors import UserError
from plasticity.kernels.cuda import launch

MISSING = "nvdisasm is missing: pip install nvidia-cuda-nvdisasm (or a CUDA toolkit has it)"
NO_NVRTC = "NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12"


@dataclass(frozen=True)
class Instruction:
    """One of a kernel: its address, its name with all suffixes (`LDG.E.64`), and where it goes: the
    address of a branch's target, or the name of the subroutine that is called."""

    address: int
    name: str
    target: int | None = None
    called: str = ""

    def is_a(self, *names: str) -> bool:
        return self.name.split(".")[0] in names

    @property
    def width(self) -> int:
        """Bytes that an access moves for a thread."""
        parts = self.name.split(".")
        narrow = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
        return next((narrow[part] for part in parts if part in narrow), 4)


@dataclass(frozen=True)
class Kernel:
    """The instructions of one kernel, without its subroutines and without padding."""

    instructions: tuple[Instruction, ...]

    @property
    def loops(self) -> tuple[tuple[int, int], ...]:
        """First and last address of every loop."""
        back = (i for i in self.instructions if i.target is not None and i.target < i.address)
        return tuple((i.target, i.address) for i in back)

    def within(self, first: int, last: int) -> "Kernel":
        return Kernel(tuple(i for i in self.instructions if first <= i.address <= last))

    @property
    def looped(self) -> "Kernel":
        """The part that lies within loops."""
        loops = self.loops
        inside = (i for i in self.instructions if any(a <= i.address <= b for a, b in loops))
        return Kernel(tuple(inside))

    @property
    def main(self) -> "Kernel":
        """The innermost loop that moves most bytes, or all where no loop moves any."""
        moving = {loop: part for loop in self.loops if (part := self.within(*loop)).moved}
        innermost = [
            part
            for (a, b), part in moving.items()
            if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in moving)
        ]
        return max(innermost, key=lambda part: part.moved, default=self)

    def count(self, wanted: Callable[[Instruction], bool]) -> int:
        return sum(map(wanted, self.instructions))

    def accesses(self, *names: str) -> dict[int, int]:
        """How many there are of each width in bytes."""
        return dict(sorted(Counter(i.width for i in self.instructions if i.is_a(*names)).items()))

    @property
    def moved(self) -> int:
        """Bytes between a thread and the card's memory."""
        return sum(i.width for i in self.instructions if i.is_a("LDG", "STG", "LDGSTS"))


def divides_by_32_bits(i: Instruction) -> bool:
    """The reciprocal of an integer, with which a division begins. (A 64-bit division has one beside
    it, for numbers that are small.)"""
    return i.is_a("I2F") and i.name.endswith(".RP")


def divides_by_64_bits(i: Instruction) -> bool:
    return re.search(r"(div|rem)_[su]64", i.called) is not None


def multiplies_64_bits(i: Instruction) -> bool:
    """The product of two lower halves, one for each product of 64 bits (and for an index without a
    sign)."""
    return i.name.startswith(("IMAD.WIDE.U32", "UIMAD.WIDE.U32"))


def branches(i: Instruction) -> bool:
    return i.is_a("BRA", "BRX", "CALL")


def multiply_adds(i: Instruction) -> bool:
    return i.is_a("FFMA", "FADD", "FMUL", "DFMA", "DADD", "DMUL", "HMMA")


COUNTS = {
    "div32": divides_by_32_bits,
    "div64": divides_by_64_bits,
    "mul64": multiplies_64_bits,
    "branches": branches,
    "float": multiply_adds,
}


def disassembler() -> str | None:
    """nvdisasm from the path or from its wheel, or None where there is none."""
    if found := shutil.which("nvdisasm"):
        return found
    spec = find_spec("nvidia")
    places = (spec.submodule_search_locations or ()) if spec else ()
    return next((str(p) for place in places for p in Path(place).glob("*/bin/nvdisasm")), None)


def disassemble(cubin: bytes) -> dict[str, Kernel]:
    """The kernels of a CUBIN by their symbols.

    Raises:
        UserError: nvdisasm is missing, or does not know such a CUBIN.
    """
    program = disassembler()
    if program is None:
        raise UserError(MISSING)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "kernels.cubin")
        file.write_bytes(cubin)
        done = subprocess.run([program, "-c", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{program} refuses the kernels: {' '.join(done.stderr.split())}")
    return parse(done.stdout)


def parse(text: str) -> dict[str, Kernel]:
    """Kernels by their symbols, from what `nvdisasm -c` prints."""
    sections = re.split(r"^\s*\.section\s+\.text\.([\w$]+),.*$", text, flags=re.MULTILINE)
    return {s: _kernel(s, code) for s, code in zip(sections[1::2], sections[2::2], strict=True)}


def _kernel(symbol: str, code: str) -> Kernel:
    """The instructions from the kernel's label on, to its first subroutine or its padding."""
    found: list[tuple[int, str, str]] = []
    labels: dict[str, int] = {}
    waiting, own = [], True
    for line in code.splitlines():
        if label := re.match(r"([.\w$]+):\s*$", line):
            waiting.append(label[1])
            own = own and not (label[1].startswith("$") and label[1] != symbol)
        elif read := re.match(r"\s*/\*([0-9a-f]+)\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)([^;]*);", line):
            address = int(read[1], 16)
            labels |= dict.fromkeys(waiting, address)
            waiting = []
            if own and read[2] != "NOP":
                found.append((address, read[2], read[3]))
    made = []
    for address, name, operands in found:
        to = re.search(r"`\(([^)]+)\)", operands)
        jumps = to and name.split(".")[0] in ("BRA", "CALL")
        target = labels.get(to[1]) if jumps and name.startswith("BRA") else None
        if target == address:
            continue  # what stands behind the last instruction
        called = to[1] if jumps and name.startswith("CALL") else ""
        made.append(Instruction(address, name, target, called))
    return Kernel(tuple(made))


def compiled(
    architecture: str, only: str = ""
) -> dict[str, tuple[Kernel, cuda_resources.Resources]]:
    """The kernels whose names hold `only`, by file and name.

    Raises:
        UserError: a tool is missing, or no kernel is called so.
    """
    if cuda_resources.library() is None:
        raise UserError(NO_NVRTC)
    found = {}
    for file in launch.FILES:
        names = [name for name in launch.names(file) if only in f"{file}: {name}"]
        if not names or not cuda_resources.architectures(file, [architecture]):
            continue
        code = launch.source(file)
        cubin, _, resources = cuda_resources.compile_kernels(code, names, architecture)
        kernels = disassemble(cubin)
        found |= {f"{file}: {name}": (kernels[r.symbol], r) for name, r in resources.items()}
    if not found:
        raise UserError(f"--only must be part of a kernel's name for {architecture}, got {only!r}")
    return found


def row(kernel: Kernel, of: cuda_resources.Resources) -> list[str]:
    """The numbers of a kernel, as the table has them."""
    looped, main = kernel.looped, kernel.main
    both = lambda wanted: f"{kernel.count(wanted)}/{looped.count(wanted)}"  # noqa: E731
    widths = lambda *names: (  # noqa: E731
        "+".join(f"{n}x{width}" for width, n in kernel.accesses(*names).items()) or "-"
    )
    per_byte = f"{len(main.instructions) / main.moved:.2f}" if main.moved else "-"
    return [
        str(of.registers),
        str(of.spilled),
        both(lambda _: True),
        widths("LDG", "LDGSTS"),
        widths("STG"),
        widths("LDS", "STS"),
        *map(both, COUNTS.values()),
        str(len(main.instructions)),
        str(main.moved),
        per_byte,
    ]


HEADS = ("registers", "spilled", "instructions", "loads", "stores", "shared", *COUNTS,
         "main loop", "bytes", "per byte")  # fmt: skip


def table(rows: dict[str, Sequence[str]]) -> str:
    """Aligned columns under their heads."""
    lines = [("kernel", *HEADS), *((name, *cells) for name, cells in rows.items())]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{c:<{w}}" if not i else f"{c:>{w}}"
            for i, (c, w) in enumerate(zip(line, wide, strict=True))
        )
        for line in lines
    )


@click.command(help=__doc__.splitlines()[0])
@click.option(
    "--architecture",
    type=click.Choice(cuda_resources.ARCHITECTURES),
    default="sm_90",
    show_default=True,
    help="The generation of cards that is compiled for.",
)
@click.option("--only", default="", help="Kernels whose `file: name` holds this text.")
def main(architecture: str, only: str) -> None:
    try:
        found = compiled(architecture, only)
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    click.echo(table({name: row(*how) for name, how in found.items()}))


if __name__ == "__main__":
    main()
