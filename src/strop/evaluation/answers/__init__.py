"""Answers that a model generates, and what they are scored by."""
