"""Resources that a compiled kernel needs, read out of its machine code."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import Any

import triton

SHARED_MEMORY = {
    "sm_75": 65_536,
    "sm_80": 166_912,
    "sm_89": 101_376,
    "sm_90": 232_448,
    "sm_100": 232_448,
    "gfx942": 65_536,
}
"""Bytes of shared memory a block may have (CUDA C programming guide, table of technical
specifications per compute capability; AMD CDNA3 ISA, section 2.4)."""

_INSTRUCTION = re.compile(
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE
)
_AMD_INSTRUCTION = re.compile(r"^\s+([a-z]\w+)", re.MULTILINE)
_AMD_WIDTH = {"dwordx4": 16, "dwordx3": 12, "dwordx2": 8, "dword": 4, "ushort": 2, "short": 2}
_NVIDIA_WIDTH = {"256": 32, "128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
_TENSOR_CORES = ("HMMA", "IMMA", "HGMMA", "QGMMA", "UTCHMMA", "UTCQMMA", "v_mfma")


@dataclass(frozen=True, slots=True)
class Needs:
    """Resources of one kernel on one card."""

    registers: int
    """Of a thread."""
    spilled: int
    """Bytes of memory a thread needs because registers do not suffice, or for arrays of its own."""
    shared: int
    """Bytes of a block."""
    warps: int
    loads: dict[int, int]
    """Load instructions from global memory, by bytes a thread gets from each."""
    tensor_core_instructions: int
    products: list[str]
    """16-bit formats of its matrix products: f16, bf16."""
    pointers: str
    """Types that its pointers point to."""


def needs(kernel: Any, card: str) -> Needs:
    """Return what a compiled kernel needs.

    Args:
        kernel: as `triton.compile` returns it.
        card: what it is compiled for.
    """
    if card.startswith("sm_"):
        registers, spilled, instructions = _nvidia(kernel.asm["cubin"])
        loads = Counter(map(_nvidia_width, filter(_is_nvidia_load, instructions)))
    else:
        registers, spilled, instructions = _amd(kernel.asm["amdgcn"])
        loads = Counter(width for i in instructions if (width := _amd_width(i)))
    product = re.compile(r"tt\.dot .*tensor<[0-9x]+x(f16|bf16)>")
    return Needs(
        registers=registers,
        spilled=spilled,
        shared=kernel.metadata.shared,
        warps=kernel.metadata.num_warps,
        loads=dict(loads),
        tensor_core_instructions=sum(i.startswith(_TENSOR_CORES) for i in instructions),
        products=sorted(set(product.findall(kernel.asm["ttir"]))),
        pointers=" ".join(sorted(set(re.findall(r"!tt\.ptr<(\w+)>", kernel.asm["ttir"])))),
    )


def _nvidia(cubin: bytes) -> tuple[int, int, list[str]]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", "-sass", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    assert usage is not None
    return int(usage[1]), int(usage[2]) + int(usage[3]), _INSTRUCTION.findall(text)


def _is_nvidia_load(instruction: str) -> bool:
    return instruction.startswith(("LDG", "LDGSTS"))


def _nvidia_width(instruction: str) -> int:
    parts = instruction.split(".")
    return next((width for part, width in _NVIDIA_WIDTH.items() if part in parts), 4)


def _amd(assembly: str) -> tuple[int, int, list[str]]:
    def number(key: str) -> int:
        match = re.search(rf"\.{key}:\s+(\d+)", assembly)
        assert match is not None, key
        return int(match[1])

    spilled = number("private_segment_fixed_size") + 4 * number("vgpr_spill_count")
    return number("vgpr_count"), spilled, _AMD_INSTRUCTION.findall(assembly)


def _amd_width(instruction: str) -> int:
    match = re.match(r"(?:global|buffer)_load_(\w+)", instruction)
    if not match:
        return 0
    kind = match[1].removesuffix("_d16").removesuffix("_d16_hi")
    return next((width for name, width in _AMD_WIDTH.items() if name in kind), 1)
