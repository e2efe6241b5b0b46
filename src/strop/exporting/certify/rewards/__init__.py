"""Rewards of a model that learned to reward: what exports of it are compared on, and by which limits."""
