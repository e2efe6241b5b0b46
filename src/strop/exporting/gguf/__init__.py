"""Writes and reads GGUF."""
