"""Functions from tensors to tensors, one folder each, several implementations.

Dimension letters, valid in the whole library: B sequences, T tokens, N rows (B * T, or the tokens
kept of them), M scored rows, D features in, E features out, F features of the MLP, H query heads,
K key/value heads, C features of a head, V vocabulary, R adapter rank, G quantisation group.
"""
