"""Continued pre-training: whole texts as tokens on disk, packed into blocks without padding."""
