"""Kernels launched and bytes moved by one forward and backward, counted on fake CUDA tensors.

Run `python -m strop.core.simulated.fake_cuda traffic OUR-OR-EAGER-OR-COMPILED FORMULA` here; prints a
line of JSON. A kernel's bytes are those of the tensors it reads and of those it writes, each element once:
what a perfect cache leaves to be moved. Eager PyTorch launches a kernel for each operator that is no view.
For torch.compile the kernels are those its compiler has decided on, counted by its own scheduler.
"""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from strop.core.dataless import launch_without_data
from strop.layers.attention_half import Attended, AttentionHalf
from strop.layers.block import run_half
from strop.layers.mlp_half import MlpHalf
from strop.layers.norm import Norm
from strop.ops.glu import glu
from strop.ops.lora_linear.parts import LinearParts, Workspace
from strop.ops.rms_norm import rms_norm
from strop.ops.rope import rope
from strop.ops.segment_attention.segments import Segments
from strop.testing.gpu.accesses import accesses
from strop.testing.gpu.launching import FakeCuda, NoCard

N, D, H, K, C, INNER, R = 4096, 4096, 32, 8, 128, 14336, 16
"""A block of Llama-3-8B on one row of 4,096 tokens, adapters of rank 16 on all linear layers."""
EPS, SCALE = 1e-5, 2.0
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
"""Operators whose work is matrix products, beside attention."""
NO_KERNEL = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "detach",
    "alias",
    "_unsafe_view",
}


# A PyTorch without CUDA has no kernel of this name for it and would count what it is made of.
LIBRARY = torch.library.Library("aten", "IMPL", "CUDA")
LIBRARY.impl("silu_backward", lambda *tensors: tensors[0])


class Count:
    """Kernels and bytes so far; `products` of those whose work is matrix products."""

    def __init__(self) -> None:
        self.kernels = self.bytes = self.products = self.product_bytes = 0

    def add(self, name: str, moved: int) -> None:
        """Count one kernel; what moves nothing is none."""
        if not moved:
            return
        self.kernels += 1
        self.bytes += moved
        if name.split(".")[0].rstrip("_") in PRODUCTS or "attention" in name:
            self.products += 1
            self.product_bytes += moved


class Eager(TorchDispatchMode):
    """Counts what operators read and write."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.name().removeprefix("aten::")
        returns = func._schema.returns
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if func.namespace == "aten" and not view and name.split(".")[0] not in NO_KERNEL:
            written = tree_leaves(result)
            read = [*args, *(v for k, v in kwargs.items() if k != "out")]
            if name.split(".")[0] in ("copy_", "fill_", "zero_"):
                read = read[1:]
            self.count.add(name, sum(map(size, [*tree_leaves(read), *written])))
            if name in (
                "addmm",
                "addmm.out",
            ):  # cuBLAS adds to its result, into which PyTorch copies
                self.count.add("copy_", 2 * sum(map(size, written)))
        return result


class Launched(NoCard):
    """Counts the tensors that launches of Triton's kernels read and write."""

    def __init__(self, count: Count) -> None:
        super().__init__("sm_90")
        self.count = count
        self.accesses: dict[int, dict[str, tuple[bool, bool]]] = {}
        triton.knobs.runtime.jit_post_compile_hook = self.compiled
        triton.runtime.driver.set_active(self)

    def compiled(self, *, fn: Any, compile: dict[str, Any], **_: Any) -> None:
        """Look which of its tensors a kernel reads and writes, before its first launch."""
        kernel = fn.jit_function.device_caches[self.number][0][compile["key"]]
        self.accesses[id(kernel.src)] = accesses(kernel)

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """Return what launches a kernel."""
        touched, names = self.accesses[id(source)], source.fn.arg_names

        def launch(*arguments: Any, **options: Any) -> None:
            tensors = zip(names, arguments[-len(names) :], strict=True)
            moved = (size(t) * sum(touched[name]) for name, t in tensors if isinstance(t, Tensor))
            self.count.add(source.name, sum(moved))

        return launch


def size(t: Any) -> int:
    """Return how many bytes of a tensor there are to move; of an expanded one, each element once."""
    if not isinstance(t, Tensor):
        return 0
    extents = (n for n, stride in zip(t.shape, t.stride(), strict=True) if stride)
    return math.prod(extents) * t.element_size()


def tensor(*shape: int, dtype: torch.dtype = torch.bfloat16, grad: bool = False) -> Tensor:
    """Return a tensor on the card."""
    return torch.empty(*shape, dtype=dtype, device="cuda", requires_grad=grad)


def linear(x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return what PEFT's linear layer does: the adapter in its own dtype, the sum in the wider one."""
    base = F.linear(x, weight)
    return (base + F.linear(F.linear(x.to(a.dtype), a), b) * SCALE).to(base.dtype)


def plain_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Return what LlamaRMSNorm does."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


def plain_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return what apply_rotary_pos_emb does, with angles [N, 1, C]."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos + turned * sin


def plain_glu(gate: Tensor, up: Tensor) -> Tensor:
    """Return what LlamaMLP does between its products."""
    return F.silu(gate) * up


SHAPES = {
    "q": (H * C, D), "k": (K * C, D), "v": (K * C, D), "o": (D, H * C),
    "gate": (INNER, D), "up": (INNER, D), "down": (D, INNER),
}  # fmt: skip


def layers() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return weight, A and B of each linear layer; A and B in float32, as PEFT makes them."""
    return {
        name: (
            tensor(E, d),
            tensor(R, d, dtype=torch.float32, grad=True),
            tensor(E, R, dtype=torch.float32, grad=True),
        )
        for name, (E, d) in SHAPES.items()
    }


def plain_block(x: Tensor, norms: list[Tensor], angles: list[Tensor], *flat: Tensor) -> Tensor:
    """Return what LlamaDecoderLayer does, on rows [N, D]."""
    each = {name: flat[3 * i : 3 * i + 3] for i, name in enumerate(SHAPES)}
    h = plain_norm(x, norms[0])
    q, k, v = (linear(h, *each[name]).view(N, -1, C) for name in "qkv")
    q, k = (plain_rope(t, angles[0], angles[1]) for t in (q, k))
    attend = torch.ops.aten._scaled_dot_product_flash_attention
    out = attend(*(t.transpose(0, 1)[None] for t in (q, k, v)), 0.0, True)[0]
    x = x + linear(out[0].transpose(0, 1).reshape(N, -1), *each["o"])
    h = plain_norm(x, norms[1])
    act = plain_glu(linear(h, *each["gate"]), linear(h, *each["up"]))
    return x + linear(act, *each["down"])


def our_block(x: Tensor, norms: list[Tensor], angles: list[Tensor], *flat: Tensor) -> Tensor:
    """Return the same by strop's halves, with activations="keep"."""
    parts = {
        name: LinearParts(flat[3 * i], None, flat[3 * i + 1], flat[3 * i + 2], SCALE)
        for i, name in enumerate(SHAPES)
    }
    workspace = Workspace()
    attended = Attended(Segments((N,), (None,)), angles[0], angles[1])
    attention = AttentionHalf(
        norm=Norm(norms[0], EPS, False), qkv=(parts["q"], parts["k"], parts["v"]), o=parts["o"],
        heads=H, key_heads=K, features=C, scale=C**-0.5, window=None, softcap=None, q_norm=None,
        k_norm=None, post_norm=None, attended=attended, workspace=workspace,
    )  # fmt: skip
    mlp = MlpHalf(
        norm=Norm(norms[1], EPS, False), gate_up=(parts["gate"], parts["up"]), down=parts["down"],
        activation="silu", post_norm=None, workspace=workspace,
    )  # fmt: skip
    return run_half(mlp, run_half(attention, x))


def calls(ours: bool) -> dict[str, tuple[Callable[..., Tensor], list[Any]]]:
    """Return each formula with its inputs."""
    x, heads, gate_up = (
        tensor(N, D, grad=True),
        tensor(N, H + K, C, grad=True),
        tensor(N, 2 * INNER, grad=True),
    )
    weight = tensor(D)
    norms, flat = [tensor(D), tensor(D)], [t for each in layers().values() for t in each]
    if ours:
        angles = [tensor(N, C // 2, dtype=torch.float32), tensor(N, C // 2, dtype=torch.float32)]
        return {
            "rms_norm": (lambda x, w: rms_norm(x, w, eps=EPS, impl="triton"), [x, weight]),
            "rope": (lambda x, *angles: rope(x, *angles, impl="triton"), [heads, *angles]),
            "glu": (lambda t: glu(t, "silu", impl="triton"), [gate_up]),
            "block": (our_block, [x, norms, angles, *flat]),
        }
    angles = [tensor(N, 1, C), tensor(N, 1, C)]
    return {
        "rms_norm": (plain_norm, [x, weight]),
        "rope": (plain_rope, [heads, *angles]),
        "glu": (lambda t: plain_glu(*t.chunk(2, -1)), [gate_up]),
        "block": (plain_block, [x, norms, angles, *flat]),
    }


def run(mode: str, formula: str) -> Count:
    """Count one formula, forward and backward."""
    count = Count()
    with torch.autograd.set_multithreading_enabled(False), FakeCuda():
        call, inputs = calls(mode == "ours")[formula]
        if mode == "compiled":
            from traffic_compiled import compiled

            compiled(call, inputs, count)
            return count
        if mode == "ours":
            launch_without_data()
            Launched(count)
        with Eager(count):
            y = call(*inputs)
            y.backward(torch.empty_like(y))
    return count


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(run(*sys.argv[1:]))) + "\n")
