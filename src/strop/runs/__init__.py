"""Folder of a run: record, log, checkpoints, report, and the rows it trained on."""
