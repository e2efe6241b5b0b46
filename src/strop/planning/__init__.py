"""Chooses settings from model, data, machine and budget; predicts memory and time."""

from strop.planning.setup import Setup, Step
from strop.planning.simulate import simulate

__all__ = ["Setup", "Step", "simulate"]
