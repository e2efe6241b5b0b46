"""Sweeps: many runs of one data set under other settings, chosen by optuna, the poor ones cut short."""
