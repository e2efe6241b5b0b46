"""Turns weights into few bits where it hurts least."""
