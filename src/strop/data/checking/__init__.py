"""Checks of a data set, and a cleaned copy of it."""
