"""A step on tensors without data holds, byte for byte, what the real one asks the allocator for."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from strop.core.errors import ConfigError
from strop.core.simulated.allocations import Allocations
from strop.core.system.heap import LARGE
from strop.forward.compact import install
from strop.models.meta_model import outline
from strop.planning.memory import simulate
from strop.planning.step import Setup

LLAMA = {
    "model_type": "llama", "vocab_size": 301, "hidden_size": 96, "intermediate_size": 256,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
QWEN = LLAMA | {"model_type": "qwen2", "num_hidden_layers": 2}
ROWS = (150, 99, 120)


def setup(**changes):
    return Setup(**{"config": LLAMA, "rows": ROWS, "bits": 16, "dtype": "float32"} | changes)


def allocations(seen):
    """Return the events of a profile by which a block of memory came or went."""
    events = list(seen.profiler.kineto_results.experimental_event_tree())
    for event in events:
        events.extend(event.children)
    return [event for event in events if hasattr(event.extra_fields, "alloc_size")]


def real_peak(step_setup):
    """Return what the allocator handed out at most in two steps, the optimizer's state among it."""
    model = outline(
        step_setup.config, bits=step_setup.bits, dtype=torch.float32, rank=step_setup.rank
    )
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(1 if tensor.is_floating_point() else 0)
    compact, _ = install(
        model,
        activations=step_setup.activations,
        micro_batch_tokens=step_setup.micro_batch_tokens,
        linear_loss=True,
    )
    ids, labels = torch.zeros(3, 150, dtype=torch.int64), torch.full((3, 150), -100)
    for b, row in enumerate(ROWS):
        ids[b, 0], labels[b, 1:row] = b, 0
    micro_batches = compact.micro_batches(labels, {"input_ids": ids})
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)

    def step():
        loss = compact.answer(micro_batches, labels, None).loss
        loss.backward()
        del loss
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
        step()
    # A block of an earlier profile may be freed in this one: only what it saw allocated counts.
    sizes: dict[int, int] = {}
    most = 0
    for block in sorted(allocations(seen), key=lambda event: event.start_time_ns):
        address, size = block.extra_fields.ptr, block.extra_fields.alloc_size
        if size > 0:
            sizes[address] = size
        else:
            sizes.pop(address, None)
        most = max(most, sum(sizes.values()))
    return most


@pytest.mark.parametrize("activations", ["keep", "checkpoint", "offload"])
@pytest.mark.parametrize("config", [LLAMA, QWEN], ids=["llama", "qwen2"])
def test_a_step_allocates_what_was_predicted(config, activations):
    step_setup = setup(config=config, activations=activations)
    (step,) = simulate(step_setup)
    assert step.peak - step.before + step.at_peak["optimizer"] == real_peak(step_setup)


def test_so_it_does_in_four_bits():
    step_setup = setup(activations="checkpoint", bits=4)
    (step,) = simulate(step_setup)
    assert step.peak - step.before + step.at_peak["optimizer"] == real_peak(step_setup)


def test_so_it_does_in_pieces_but_for_the_random_state_which_no_operation_makes():
    step_setup = setup(activations="checkpoint", micro_batch_tokens=160)
    (step,) = simulate(step_setup)
    state = (
        torch.get_rng_state().nbytes
    )  # of the first piece, to whose gradients later ones are added
    assert step.peak - step.before + step.at_peak["optimizer"] + state == real_peak(step_setup)


def test_the_kinds_at_the_peak_add_up():
    (step,) = simulate(setup(activations="keep"))
    assert sum(step.at_peak.values()) == step.peak == max(step.phases.values())
    assert {"weights", "adapter", "optimizer", "kept", "temporaries"} <= step.at_peak.keys()


def test_small_blocks_that_were_freed_stay_with_the_process():
    few, many = LARGE // 16, LARGE  # numbers of 4 bytes
    with Allocations("cpu") as seen:
        small = [torch.empty(few) for _ in range(8)]
        survivor = small.pop()
        del small
        large = torch.empty(many)
        again = torch.empty(few)  # where a freed one was
        del large
    assert seen.peak == survivor.nbytes + again.nbytes + 4 * many
    assert seen.resident == 8 * again.nbytes + 4 * many


def test_every_fault_of_a_setup_is_named():
    with pytest.raises(
        ConfigError, match=r"(?s)needs at least 2.*device is 'tpu'.*dtype is 'int8'"
    ):
        simulate(setup(rows=(1,), device="tpu", dtype="int8"))
