"""Chooses settings from model, data, machine and budget; predicts memory and time."""

from strop.planning.memory import simulate
from strop.planning.step import Setup, Step

__all__ = ["Setup", "Step", "simulate"]
