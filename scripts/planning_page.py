"""Write the measured numbers into docs/planning.md, between its markers, from results files."""

import statistics
from pathlib import Path
from typing import Any

from results import machine, read, rows_of, with_numbers
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "planning.md"


def page() -> str:
    """Return the page with what was measured."""
    parts = {"contest": contest, "prediction": prediction}
    texts = [
        part(measured) for name, part in parts.items() if (measured := read(f"cpu/{name}.json"))
    ]
    block = "\n\n".join(texts) or "No results have been recorded yet."
    return with_numbers(PAGE.read_text(encoding="utf-8"), block)


def contest(results: dict[str, Any]) -> str:
    """Return how the chosen settings did beside others, on each task."""
    tasks = results["tasks"]
    if not tasks:
        return "The contest of chosen settings has not been run to the end of a task yet."
    arms = list(next(iter(tasks.values()))["arms"])
    cells = [["task", *arms, "best of the grid", "its cost", "cost", "within 1 %"]]
    for task, of in tasks.items():
        least = min(row["loss"] for row in of["arms"].values())
        most = of["arms"]["automatic"]["seeds"]
        values = [shown(row, row["loss"] == least, most) for row in of["arms"].values()]
        cost = of["arms"]["best"]["tokens"]
        near = "yes" if of["near_best"] else f"{of['loss_over_best'] - 1:+.1%}"
        row = [
            of["best"].removeprefix("grid "),
            f"{cost:,.0f}",
            f"{of['cost_over_best']:.2f}",
            near,
        ]
        cells.append([f"{task}, {seeds(most)}", *values, *row])
    ahead = ", ".join(f"{name} on {count}" for name, count in results["ahead_of"].items())
    costs = statistics.median(of["cost_over_best"] for of in tasks.values())
    return (
        f"**Chosen settings against others**, {results['model']}, 16 bits ({machine(results)}): loss on "
        "rows that no arm trained on, and the share of right answers or of pairs told rightly; the least "
        "loss of a row is bold. `best` is the best of 12, the rate and the epochs in the next column, "
        f"told by these same rows; its cost is in tokens, that of `automatic` in times of it. Where two "
        "arms were run on other numbers of seeds, they are compared on those that both have.\n\n"
        f"{rows_of(cells)}\n\nOf {len(tasks)} tasks the chosen settings come within 1 % of the best of the "
        f"grid on {results['near_best']}, at no more than 1.6 times its cost on "
        f"{results['within_1.6_cost']} (median {costs:.2f}); they are ahead of {ahead}. "
        "The numbers in the rules of rates and epochs were set with these grids in sight, so this is no "
        "test on tasks that they have not seen. `python benchmarks/contest.py` repeats it."
    )


def seeds(count: int) -> str:
    """Return a number of seeds in words."""
    return "1 seed" if count == 1 else f"{count} seeds"


def shown(row: dict[str, Any], least: bool, most: int) -> str:
    """Return loss and score of an arm, and its seeds where they are not those of the task."""
    loss = f"**{row['loss']:.3f}**" if least else f"{row['loss']:.3f}"
    score = f", {row['score']:.0%}" if "score" in row else ""
    return loss + score + (f" ({seeds(row['seeds'])})" if row["seeds"] != most else "")


def prediction(results: dict[str, Any]) -> str:
    """Return how far predicted memory and time were from measured ones."""
    return (
        f"**Predicted against measured**, {results['runs']} runs ({machine(results)}): memory "
        f"{results['memory_median_error']:.1%} off in the median, {results['memory_largest_error']:.1%} at "
        f"most; seconds a step {results['time_median_error']:.1%}, "
        f"{results['time_largest_error']:.1%} at most. `python benchmarks/prediction.py` repeats it."
    )


if __name__ == "__main__":
    write_page(PAGE, page())
