"""Folder of a run: record, log, checkpoints, report."""
