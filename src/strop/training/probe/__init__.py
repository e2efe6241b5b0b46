"""Probe of the learning rate: short trainings from one start, on the same rows, before the run."""
