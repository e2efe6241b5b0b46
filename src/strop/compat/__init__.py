"""The way over from other tools: their calls, and their configurations read as settings."""
