"""Checks of Triton kernels that need no GPU; each runs in a process of its own."""
