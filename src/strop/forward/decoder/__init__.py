"""Runs a decoder on kept tokens: known blocks through strop's halves, others as transformers wrote them."""
