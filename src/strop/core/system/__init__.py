"""The system that strop runs on: disk, heap, processes, network, installed versions."""
