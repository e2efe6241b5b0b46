"""Formats: columns and messages that make a row."""
