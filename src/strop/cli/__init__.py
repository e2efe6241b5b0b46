"""Reads arguments, calls one function, prints; no tensors."""
