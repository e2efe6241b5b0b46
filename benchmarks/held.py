"""strop with weights held in few bits beside TRL on the same checkpoint.

`qlora` is a checkpoint that bitsandbytes saved (NF4, double quantisation, the rest in bfloat16), which
transformers + bitsandbytes + PEFT + TRL train on too. `sixteen_bits` has every weight in bfloat16, so
that nothing is lost by holding it so where products run in float32. All modes have the same weights
and the loss curves must agree; TRL with bfloat16 products is shown beside them. Run as
`python benchmarks/held.py qlora` or `sixteen_bits`; writes `benchmarks/results/cpu/NAME.json`. Ends
with status 1 if the curves of the modes that compute in float32 disagree.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare import LARGEST_LOSS_DIFFERENCE, arguments, best, bests, compare, in_a_process, save

STROP = ("strop-held", "strop-held-lean", "strop-held-offload")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """How the weights are stored, and the modes that train on them besides `STROP`."""

    kind: str
    """As `checkpoint.py` names it."""
    float32: tuple[str, ...]
    """TRL's; the first is what the curves of the others are held to."""
    bfloat16: tuple[str, ...]
    """TRL's."""
    also: tuple[str, ...] = ()
    """strop's, not held to the curves."""
    unsloth: tuple[str, ...] = ()
    """Of its CPU backend, where there is one."""


UNSLOTH = ("unsloth-cpu", "unsloth-cpu-checkpoint")
ROWS = ("trl-rows", "trl-rows-checkpoint")
ROWS_BFLOAT16 = ("trl-rows-bfloat16", "trl-rows-checkpoint-bfloat16")
CHECKPOINTS = {
    "qlora": Checkpoint("bnb-4bit", ROWS, ROWS_BFLOAT16, ("strop-held-bfloat16",), UNSLOTH),
    "sixteen_bits": Checkpoint("bfloat16", ROWS, ROWS_BFLOAT16),
}


def main() -> int:
    """Measure, write the result, print what matters of it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("checkpoint", choices=CHECKPOINTS)
    options = parser.parse_args()
    stored = CHECKPOINTS[options.checkpoint]
    trl = stored.float32 + stored.bfloat16
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / stored.kind
        in_a_process("checkpoint.py", stored.kind, options.model, folder)
        options.model = str(folder)
        result = compare("chats", (*trl, *STROP, *stored.also, *stored.unsloth), options)
    result |= {"name": options.checkpoint, **summary(result, stored, trl)}
    path = save(result, options.out)
    print(f"TRL is fastest as {result['trl_fastest']}, leanest as {result['trl_leanest']}")
    for mode, ratio in result["faster_than_trl_best"].items():
        print(f"{mode}: {ratio:.2f} times as fast as TRL's best")
    for mode, shares in result["memory_of_trl"].items():
        print(f"{mode}: {shares[result['trl_leanest']]:.0%} of the memory of TRL's leanest")
    print(f"largest loss difference in float32: {result['largest_loss_difference']:.1e}")
    print(f"{'VOID: the loss curves disagree; ' if result['void'] else ''}written to {path}")
    return int(result["void"])


def summary(result: dict[str, Any], stored: Checkpoint, trl: tuple[str, ...]) -> dict[str, Any]:
    """Return what a comparison comes to."""
    modes = result["modes"]
    trl = tuple(mode for mode in trl if mode in modes)
    strop = tuple(mode for mode in STROP + stored.also if mode in modes)
    fastest = best(result, trl, "seconds")
    compared = [mode for mode in stored.float32 + STROP if mode in modes]
    difference = max((result["largest_difference"][m]["loss"] for m in compared), default=0.0)
    return {
        "void": difference > LARGEST_LOSS_DIFFERENCE,
        **bests(result),
        "strop_leanest": best(result, strop, "rss"),
        "faster_than_trl_best": {mode: result["time_ratios"][fastest][mode] for mode in strop},
        "memory_of_trl": {
            mode: {other: modes[mode]["rss"] / modes[other]["rss"] for other in trl}
            for mode in strop
        },
        "largest_loss_difference": difference,
    }


if __name__ == "__main__":
    sys.exit(main())
