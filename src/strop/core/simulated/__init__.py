"""Memory and devices that are not there: allocations of a step, a CUDA device without a card."""
