"""Divergences between two models and intervals of what was measured."""
