"""The system that strop runs on: disk, heap, processes, network, terminal, installed versions."""
