"""strop beside transformers + PEFT + TRL on chats of very different lengths.

Run as `python benchmarks/sft.py`; writes `benchmarks/results/cpu/sft.json`. Ends with status 1 if
the loss curves disagree, which makes the comparison void.
"""

import sys

from compare import arguments, best, compare, save

TRL = ("trl-rows", "trl-rows-checkpoint", "trl-default")
STROP = ("strop", "strop-lean")


def main() -> int:
    """Measure, write the result, print what matters of it."""
    options = arguments(__doc__ or "").parse_args()
    result = compare("chats", (*TRL, *STROP), options)
    fastest, leanest = best(result, TRL, "seconds"), best(result, TRL, "rss")
    ratio, modes = result["time_ratios"], result["modes"]
    result |= {
        "name": "sft",
        "trl_fastest": fastest,
        "trl_leanest": leanest,
        "faster_than_trl_best": ratio[fastest]["strop"],
        "faster_than_trl_default": ratio["trl-default"]["strop"],
        "lean_faster_than_trl_best": ratio[fastest]["strop-lean"],
        "lean_memory_of_trl_leanest": modes["strop-lean"]["rss"] / modes[leanest]["rss"],
        "strop_over_floor": result["over_floor"]["strop"],
        "largest_loss_difference": max(d["loss"] for d in result["largest_difference"].values()),
    }
    path = save(result, options.out)
    print(f"TRL is fastest as {fastest}, leanest as {leanest}")
    for name in ("faster_than_trl_best", "faster_than_trl_default", "lean_faster_than_trl_best"):
        print(f"{name.replace('_', ' ')}: {result[name]:.2f} times")
    print(f"lean memory of TRL's leanest: {result['lean_memory_of_trl_leanest']:.0%}")
    print(f"strop over the floor: {result['strop_over_floor']:.2f}")
    print(f"largest loss difference: {result['largest_loss_difference']:.1e}")
    print(f"{'VOID: the loss curves disagree; ' if result['void'] else ''}written to {path}")
    return int(result["void"])


if __name__ == "__main__":
    sys.exit(main())
