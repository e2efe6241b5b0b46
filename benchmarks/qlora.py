"""strop's QLoRA beside that of transformers + bitsandbytes + PEFT + TRL, on the same 4-bit weights.

Both open one checkpoint that bitsandbytes saved (NF4, double quantisation, the rest in bfloat16), so
that the loss curves must agree. Run as `python benchmarks/qlora.py`; writes
`benchmarks/results/cpu/qlora.json`. Ends with status 1 if the curves of the modes that compute in
float32 disagree.
"""

import sys
import tempfile
from pathlib import Path

from compare import LARGEST_LOSS_DIFFERENCE, arguments, best, compare, in_a_process, save

FLOAT32 = ("trl-rows", "trl-rows-checkpoint", "trl-default")
BFLOAT16 = ("trl-rows-bfloat16", "trl-rows-checkpoint-bfloat16")
STROP = ("strop-held", "strop-held-lean", "strop-held-offload")


def main() -> int:
    """Measure, write the result, print what matters of it."""
    options = arguments(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bnb-4bit"
        in_a_process("checkpoint.py", "bnb-4bit", options.model, folder)
        options.model = str(folder)
        result = compare("chats", (*FLOAT32, *BFLOAT16, *STROP, "strop-held-bfloat16"), options)
    trl = FLOAT32 + BFLOAT16
    fastest, leanest = best(result, trl, "seconds"), best(result, trl, "rss")
    lean = best(result, STROP, "rss")
    modes, ratios = result["modes"], result["time_ratios"][fastest]
    differences = [result["largest_difference"][mode]["loss"] for mode in FLOAT32 + STROP]
    result |= {
        "name": "qlora",
        "void": max(differences) > LARGEST_LOSS_DIFFERENCE,
        "trl_fastest": fastest,
        "trl_leanest": leanest,
        "strop_leanest": lean,
        "faster_than_trl_best": {mode: ratios[mode] for mode in (*STROP, "strop-held-bfloat16")},
        "memory_of_trl_leanest": {
            mode: modes[mode]["rss"] / modes[leanest]["rss"] for mode in STROP
        },
        "largest_loss_difference": max(differences),
    }
    path = save(result, options.out)
    print(f"TRL with bitsandbytes is fastest as {fastest}, leanest as {leanest}")
    for mode, ratio in result["faster_than_trl_best"].items():
        print(f"{mode}: {ratio:.2f} times as fast as TRL's best")
    for mode, share in result["memory_of_trl_leanest"].items():
        print(f"{mode}: {share:.0%} of the memory of TRL's leanest")
    print(f"largest loss difference in float32: {max(differences):.1e}")
    print(f"{'VOID: the loss curves disagree; ' if result['void'] else ''}written to {path}")
    return int(result["void"])


if __name__ == "__main__":
    sys.exit(main())
