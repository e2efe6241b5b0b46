"""strop beside transformers + TRL where all weights are trained, on chats of very different lengths.

Run as `python benchmarks/full_weights.py`; writes `benchmarks/results/cpu/full_weights.json`. Weights,
gradients and AdamW's means are in float32 on both sides. Ends with status 1 if the loss curves
disagree, which makes the comparison void.
"""

import sys

from compare import arguments, best, compare, save

TRL = ("trl-full-rows", "trl-full-rows-checkpoint", "trl-full-default")
STROP = ("strop-full", "strop-full-lean")
FASTER, MEMORY = 1.8, 0.6
"""To reach: times faster than TRL as it is fastest, and share of its memory then."""


def main() -> int:
    """Measure, write the result, print what matters of it."""
    options = arguments(__doc__ or "").parse_args()
    result = compare("chats", (*TRL, *STROP), options)
    trl = [mode for mode in TRL if mode in result["modes"]]
    fastest, leanest = best(result, trl, "seconds"), best(result, trl, "rss")
    ratio, modes = result["time_ratios"], result["modes"]
    rss = {mode: measured["rss"] for mode, measured in modes.items()}
    result |= {
        "name": "full_weights",
        "trl_fastest": fastest,
        "trl_leanest": leanest,
        "faster_than_trl_fastest": ratio[fastest]["strop-full"],
        "lean_faster_than_trl_fastest": ratio[fastest]["strop-full-lean"],
        "lean_faster_than_trl_leanest": ratio[leanest]["strop-full-lean"],
        "memory_of_trl_fastest": rss["strop-full"] / rss[fastest],
        "lean_memory_of_trl_fastest": rss["strop-full-lean"] / rss[fastest],
        "lean_memory_of_trl_leanest": rss["strop-full-lean"] / rss[leanest],
        "largest_loss_difference": max(d["loss"] for d in result["largest_difference"].values()),
        "to_reach": {"faster": FASTER, "memory": MEMORY},
    }
    path = save(result, options.out)
    print(f"TRL is fastest as {fastest}, leanest as {leanest}")
    for name in [name for name in result if "faster_than" in name]:
        print(f"{name.replace('_', ' ')}: {result[name]:.2f} times")
    for name in [name for name in result if "memory_of" in name]:
        print(f"{name.replace('_', ' ')}: {result[name]:.0%}")
    print(f"largest loss difference: {result['largest_loss_difference']:.1e}")
    print(f"{'VOID: the loss curves disagree; ' if result['void'] else ''}written to {path}")
    return int(result["void"])


if __name__ == "__main__":
    sys.exit(main())
