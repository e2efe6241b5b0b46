"""Says what got better and what got worse, with confidence intervals."""
