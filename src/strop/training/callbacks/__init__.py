"""Callbacks of a run: its log, its faults, its checkpoints, and what the terminal shows of it."""
