"""Training rows in which the right document is hidden among others (RAFT, Zhang et al. 2024)."""
