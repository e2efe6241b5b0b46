"""Reads a model's folder as transformers does: files, names of tensors, what has no place."""
