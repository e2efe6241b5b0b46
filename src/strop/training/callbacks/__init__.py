"""Callbacks of a run: its log, its checkpoints, and what the terminal shows of it."""
