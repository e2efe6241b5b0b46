"""Chooses settings from model, data, machine and budget; predicts memory and time."""
