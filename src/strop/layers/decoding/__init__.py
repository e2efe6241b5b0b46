"""Decoder blocks run for one new token of each row, on a cache of keys and values in blocks."""
