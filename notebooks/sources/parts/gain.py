# %%
def show_gain(comparison, measure):
    """Draw a measure before and after with its 95 % intervals, and print the paired difference."""
    before, after = comparison.base.metrics[measure], comparison.tuned.metrics[measure]
    difference = comparison.difference[measure]
    _, axes = plt.subplots(figsize=(5, 1.8))
    for place, estimate in enumerate((after, before)):
        axes.barh(place, estimate.value, color=("tab:blue", "lightgray")[place])
        axes.plot([estimate.low, estimate.high], [place, place], color="black")
    axes.set(yticks=[0, 1], yticklabels=["after", "before"], xlabel=measure, xlim=(0, 1))
    plt.show()
    print(f"{measure}: {before.value:.3f} before, {after.value:.3f} after")
    print(
        f"difference {difference.value:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    )
