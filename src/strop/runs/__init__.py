"""The folder of a run: what stands in it, its checkpoints, its report."""
