"""Decoder on a compact batch: known blocks through strop's halves, others as transformers wrote them."""
