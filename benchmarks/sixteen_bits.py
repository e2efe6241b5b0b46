"""strop with weights held in 16 bits and products in float32, beside TRL, on one bfloat16 model.

Such a checkpoint loses nothing by being held in 16 bits, so every mode has the same weights and the
loss curves must agree; TRL with bfloat16 products is shown beside them. Run as
`python benchmarks/sixteen_bits.py`; writes `benchmarks/results/cpu/sixteen_bits.json`. Ends with
status 1 if the curves of the modes that compute in float32 disagree.
"""

import sys
import tempfile
from pathlib import Path

from compare import LARGEST_LOSS_DIFFERENCE, arguments, best, compare, in_a_process, save

FLOAT32 = ("trl-rows", "trl-rows-checkpoint")
BFLOAT16 = ("trl-rows-bfloat16", "trl-rows-checkpoint-bfloat16")
STROP = ("strop-held", "strop-held-lean", "strop-held-offload")


def main() -> int:
    """Measure, write the result, print what matters of it."""
    options = arguments(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bfloat16"
        in_a_process("checkpoint.py", "bfloat16", options.model, folder)
        options.model = str(folder)
        result = compare("chats", (*FLOAT32, *BFLOAT16, *STROP), options)
    modes, trl = result["modes"], FLOAT32 + BFLOAT16
    fastest, leanest = best(result, trl, "seconds"), best(result, FLOAT32, "rss")
    differences = [result["largest_difference"][mode]["loss"] for mode in FLOAT32 + STROP]
    result |= {
        "name": "sixteen_bits",
        "void": max(differences) > LARGEST_LOSS_DIFFERENCE,
        "trl_fastest": fastest,
        "trl_leanest": leanest,
        "trl_leanest_bfloat16": best(result, BFLOAT16, "rss"),
        "faster_than_trl_best": {mode: result["time_ratios"][fastest][mode] for mode in STROP},
        "memory_of_trl": {
            mode: {other: modes[mode]["rss"] / modes[other]["rss"] for other in trl}
            for mode in STROP
        },
        "largest_loss_difference": max(differences),
    }
    path = save(result, options.out)
    print(f"TRL is fastest as {fastest}, leanest in float32 as {leanest}")
    for mode, ratio in result["faster_than_trl_best"].items():
        share = result["memory_of_trl"][mode][leanest]
        print(f"{mode}: {ratio:.2f} times as fast, {share:.0%} of the memory")
    print(f"largest loss difference in float32: {max(differences):.1e}")
    print(f"{'VOID: the loss curves disagree; ' if result['void'] else ''}written to {path}")
    return int(result["void"])


if __name__ == "__main__":
    sys.exit(main())
