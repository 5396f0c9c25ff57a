"""What is counted of machine code: of a listing written by hand, and of kernels that are known."""

import re

import pytest
from click.testing import CliRunner

from benchmarks import cuda_resources, instructions
from plasticity.kernels.cuda import launch

LISTING = """
//--------------------- .text.f --------------------------
\t.section\t.text.f,"ax",@progbits
\t.align\t128
.text.f:
        .type           f,@function
        .size           f,(.L_x_9 - f)
f:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   I2F.U32.RP R0, UR4 ;
        /*0020*/                   LDG.E.U8.CONSTANT R3, desc[UR6][R2.64] ;
.L_x_2:
        /*0030*/                   LDG.E.128 R8, desc[UR6][R4.64] ;
        /*0040*/              @!P1 BRA `(.L_x_1) ;
        /*0050*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_u64) ;
.L_x_1:
.L_x_4:
        /*0060*/                   IMAD.WIDE.U32 R6, R2, 0x4, R4 ;
        /*0070*/               @P0 BRA `(.L_x_2) ;
        /*0080*/                   STG.E.64 desc[UR6][R4.64], R8 ;
        /*0090*/                   EXIT ;
.L_x_3:
        /*00a0*/                   BRA `(.L_x_3);
        /*00b0*/                   NOP;
        .weak           $__internal_0_$__cuda_sm20_div_u64
$__internal_0_$__cuda_sm20_div_u64:
        /*00c0*/                   I2F.U64.RP R9, R6 ;
        /*00d0*/                   RET.REL.NODEC R6 `(f) ;
.L_x_9:
"""

LACKING = [
    sentence
    for tool, sentence in (
        (cuda_resources.library, instructions.NO_NVRTC),
        (instructions.disassembler, instructions.MISSING),
    )
    if tool() is None
]
with_tools = pytest.mark.skipif(bool(LACKING), reason="; ".join(LACKING))


def counts(kernel):
    return {name: kernel.count(wanted) for name, wanted in instructions.COUNTS.items()}


def test_a_listing_is_read_as_it_stands_without_its_subroutines_and_padding():
    found = instructions.parse(LISTING)
    assert list(found) == ["f"]
    kernel = found["f"]
    assert [i.address for i in kernel.instructions] == [16 * i for i in range(10)]
    assert kernel.loops == ((0x30, 0x70),)
    assert [i.name for i in kernel.looped.instructions][::2] == ["LDG.E.128", "CALL.REL.NOINC",
                                                                 "BRA"]  # fmt: skip
    assert kernel.accesses("LDG") == {1: 1, 16: 1} and kernel.accesses("STG") == {8: 1}
    once = {"div32": 1, "div64": 1, "mul64": 1, "branches": 3, "float": 0}
    assert counts(kernel) == once and counts(kernel.looped) == once | {"div32": 0}
    assert kernel.moved == 25 and kernel.main.moved == 16 and len(kernel.main.instructions) == 5


def test_the_main_loop_is_an_innermost_one():
    """Two loops inside a third, which moves more than either."""
    lines = ["LDG.E.64 R2, desc[UR6][R4.64]", "LDG.E R2, desc[UR6][R4.64]", "BRA `(.L_1)",
             "STG.E.128 desc[UR6][R4.64], R4", "BRA `(.L_3)", "BRA `(.L_0)"]  # fmt: skip
    code = "".join(f".L_{i}:\n /*{16 * i:04x}*/ {line} ;\n" for i, line in enumerate(lines))
    kernel = instructions.parse(f"\t.section\t.text.f,\nf:\n{code}")["f"]
    assert len(kernel.loops) == 3 and kernel.moved == 28
    assert [i.address for i in kernel.main.instructions] == [0x30, 0x40]


def of(code, architecture="sm_90"):
    cubin, _, resources = cuda_resources.compile_kernels(code, ["f"], architecture)
    return instructions.disassemble(cubin)[resources["f"].symbol]


@with_tools
@pytest.mark.parametrize("architecture", cuda_resources.ARCHITECTURES)
def test_accesses_and_divisions_of_a_small_kernel_are_those_of_its_source(architecture):
    code = """
    __global__ void f(const float4* a, const double* b, float* c, long long n, long long size) {
        c[0] = a[threadIdx.x / n].x;
        __shared__ float s[256];
        s[threadIdx.x] = c[1];
        __syncthreads();
        c[2] = s[threadIdx.x ^ 1];
    #pragma unroll 1
        for (int i = 0; i < size; ++i) c[i] = float(b[i] * b[size / (n + i)]);
    }"""
    kernel = of(code, architecture)
    assert counts(kernel)["div64"] == 2 and counts(kernel.looped)["div64"] == 1
    assert kernel.looped.accesses("LDG") == {8: 2} and kernel.looped.accesses("STG") == {4: 1}
    assert kernel.accesses("LDS", "STS") == {4: 2} and kernel.accesses("STG") == {4: 3}
    assert kernel.looped.count(lambda i: i.is_a("DMUL")) == 1


@with_tools
def test_wide_accesses_are_told_by_their_width_and_a_kernel_without_loops_is_its_own_main_part():
    code = "__global__ void f(const float4* a, float4* b) { b[threadIdx.x] = a[threadIdx.x]; }"
    kernel = of(code)
    assert kernel.accesses("LDG") == kernel.accesses("STG") == {16: 1}
    assert kernel.main == kernel and kernel.moved == 32 and not kernel.looped.instructions


# Instructions for each byte of the main loops, in float32, where as many channels as may be are
# taken at once: what an H100's memory leaves time for is 8.5.
MOST = {"inputs": 2.5, "post_inputs": 3, "posts": 2, "activities": 2, "errors": 2, "weights": 1.5,
        "gradients": 1.5, "first_forward": 4, "first_correlate": 5}  # fmt: skip


@with_tools
@pytest.mark.parametrize("file", ["convolution", "first"])
def test_kernels_that_only_move_numbers_divide_nothing_and_keep_up_with_the_memory(file):
    names = [n for n in launch.names(file, "float") if n.strip(">").split(", ")[2:3] != ["1"]]
    code = launch.source(file)
    cubin, _, resources = cuda_resources.compile_kernels(code, names, "sm_90")
    kernels = instructions.disassemble(cubin)
    for name, of in resources.items():
        kernel = kernels[of.symbol]
        assert not kernel.count(lambda i: i.is_a("ATOM", "ATOMG", "RED"))
        assert counts(kernel)["div32"] == counts(kernel)["div64"] == 0, name
        main = kernel.main
        assert len(main.instructions) / main.moved <= MOST[name.partition("<")[0]], name
    if file == "convolution":
        wide = kernels[resources["inputs<float, Tile4, 2>"].symbol]
        assert wide.accesses("LDG") == wide.accesses("STG") == {8: 36}
        four = kernels[resources["errors<float, Tile2, 4>"].symbol]
        assert four.accesses("LDG") == {16: 9} and four.accesses("STG") == {16: 4}


@with_tools
def test_the_table_has_a_line_for_each_kernel_of_a_file():
    done = CliRunner().invoke(instructions.main, ["--only", "pairs:"])
    assert done.exit_code == 0
    head, *lines = done.output.splitlines()
    assert head.split()[:3] == ["kernel", "registers", "spilled"] and head.endswith("per byte")
    assert [line.split("  ")[0] for line in lines] == [
        "pairs: coactivity<float>",
        "pairs: coactivity<double>",
    ]
    assert all(re.search(r" 1x[48] +- ", line) for line in lines)  # one store, nothing shared


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [((cuda_resources, "library"), "nvrtc-cu12"), ((instructions, "disassembler"), "nvdisasm")],
)
def test_a_missing_tool_is_named_with_the_line_that_installs_it(monkeypatch, missing, sentence):
    if missing[1] == "disassembler" and cuda_resources.library() is None:
        pytest.skip(instructions.NO_NVRTC)
    monkeypatch.setattr(*missing, lambda: None)
    done = CliRunner().invoke(instructions.main, ["--only", "pairs:"])
    assert done.exit_code == 2 and done.stdout == ""
    assert re.fullmatch(rf"Error: \w+ is missing: pip install nvidia-.*{sentence}.*\n", done.stderr)


def test_a_name_that_no_kernel_has_is_refused():
    if cuda_resources.library() is None:
        pytest.skip(instructions.NO_NVRTC)
    done = CliRunner().invoke(instructions.main, ["--only", "nothing of the kind"])
    assert done.exit_code == 2
    assert done.stderr == (
        "Error: --only must be part of a kernel's name for sm_90, got 'nothing of the kind'\n"
    )
