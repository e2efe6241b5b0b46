"""The kernels that torch.compile would launch, asked of its compiler without a GPU.

The compiler asks PyTorch about the card; this process, which exists for that, answers for an H100.
"""

import types
from collections.abc import Callable
from typing import Any

import torch

CARD = types.SimpleNamespace(
    name="H100", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132, warp_size=32,
    max_threads_per_multi_processor=2048, regs_per_multiprocessor=65536, L2_cache_size=50 << 20,
    shared_memory_per_multiprocessor=233472, shared_memory_per_block_optin=232448, gcnArchName="",
    shared_memory_per_block=49152, max_threads_per_block=1024, uuid="0", clock_rate=1980000,
    memory_clock_rate=2619000, memory_bus_width=5120,
)  # fmt: skip
ANSWERS = {
    "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True,
    "get_device_properties": CARD, "get_device_capability": (9, 0), "get_device_name": "H100",
    "is_bf16_supported": True, "synchronize": None, "_lazy_init": None, "init": None,
    "set_device": None, "is_current_stream_capturing": False, "_exchange_device": 0,
    "_maybe_exchange_device": 0, "set_rng_state": None, "_get_device_properties": CARD,
    "get_rng_state": torch.empty(0, dtype=torch.uint8),
}  # fmt: skip


def answering(answer: Any) -> Callable[..., Any]:
    """Return a function that takes anything and returns one answer."""
    return lambda *_, **__: answer


for question, answer in ANSWERS.items():
    setattr(torch.cuda, question, answering(answer))
torch.version.cuda = "12.9"

import torch._inductor.decomposition  # noqa: E402
import triton  # noqa: E402
from functorch.compile import (  # noqa: E402
    aot_function,
    make_boxed_func,
    min_cut_rematerialization_partition,
)
from torch import Tensor  # noqa: E402
from torch._inductor import config  # noqa: E402
from torch._inductor.compile_fx import compile_fx_inner  # noqa: E402

from strop.testing.gpu.launching import NoCard  # noqa: E402


class DecidedError(Exception):
    """The compiler has decided on its kernels; what follows needs a card."""


def compiled(call: Callable[..., Tensor], inputs: list[Any], count: Any) -> None:
    """Count the kernels of forward and backward."""
    triton.runtime.driver.set_active(NoCard("sm_90"))

    def decided(nodes: list[Any]) -> list[Any]:
        for node in nodes:
            if node.is_foreach() or node.get_name().startswith("nop") or not node.get_nodes():
                continue
            kernel = node.get_nodes()[0].node
            name = getattr(kernel, "op_overload", None) or getattr(kernel, "python_kernel_name", "")
            name = str(name).removeprefix("aten.").removeprefix("extern_kernels.")
            if name in ("addmm", "addmm.out"):  # as in eager PyTorch
                count.add("copy_", 2 * node.get_write_buffer_sizes())
            if moved := node.get_read_write_buffers_sizes():
                count.add(name, moved)
        raise DecidedError

    def emit(graph: Any, examples: Any) -> Any:
        try:
            compile_fx_inner(graph, examples)
        except Exception as e:
            if "DecidedError" not in repr(e):
                raise
        return make_boxed_func(graph.forward)

    config._post_fusion_custom_pass = decided
    config.fx_graph_cache = False
    function = aot_function(
        call,
        fw_compiler=emit,
        bw_compiler=emit,
        partition_fn=min_cut_rematerialization_partition,
        decompositions=torch._inductor.decomposition.select_decomp_table(),
    )
    y = function(*inputs)
    y.backward(torch.empty_like(y))
