"""Divergences between two models; measures of rows, their intervals and differences."""
