"""strop beside TRL on the other kinds of training: one result per workload.

Run as `python benchmarks/training.py [WORKLOAD ...]`; writes `benchmarks/results/cpu/NAME.json`.
Ends with status 1 if the loss curves of a workload disagree, which makes that comparison void.
"""

import sys

from compare import arguments, bests, compare, save

COMPARED = {
    "instructions": ("trl-rows", "trl-rows-checkpoint", "strop"),
    "equal": ("trl-rows", "trl-batch", "strop"),
    "dpo": ("trl-rows", "trl-batch", "strop-unshared", "strop"),
    "grpo": ("trl-rows", "strop-unshared", "strop"),
    "row-2048": ("trl-rows-checkpoint", "strop-checkpoint"),
    "row-4096": ("trl-rows-checkpoint", "strop-checkpoint"),
    "row-8192": ("trl-rows-checkpoint", "strop-checkpoint"),
    "bfloat16": (
        "trl-rows-bfloat16", "trl-rows-checkpoint-bfloat16", "strop", "strop-bfloat16",
        "strop-lean-bfloat16", "strop-held-lean-bfloat16", "unsloth-cpu", "unsloth-cpu-checkpoint",
        "unsloth-cpu-batch",
    ),
}  # fmt: skip
"""Which modes run on a workload; the first is what the curves of the others are held to.

TRL takes GRPO's eight answers one at a time: all at once need more than 20 GB.
"""
WORKLOADS = {"bfloat16": "chats"}
"""What is trained on, where that is not a result's name."""


def main() -> int:
    """Measure the workloads asked for, or all, and write each result."""
    parser = arguments(__doc__ or "")
    parser.add_argument("workloads", nargs="*", default=list(COMPARED))
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(COMPARED):
        parser.error(f"not known: {', '.join(unknown)}; there are {', '.join(COMPARED)}")
    void = False
    for name in options.workloads:
        result = compare(WORKLOADS.get(name, name), COMPARED[name], options)
        result |= {"name": name, **bests(result)}
        void |= result["void"]
        print(f"{'VOID ' if result['void'] else ''}{save(result, options.out)}")
    return int(void)


if __name__ == "__main__":
    sys.exit(main())
