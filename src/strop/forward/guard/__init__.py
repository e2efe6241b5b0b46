"""Proves that the compact way gives a model's own numbers, or finds another way."""
