"""Foundations of every other package: errors, environment, dispatch, settings, files."""
