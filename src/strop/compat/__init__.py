"""The way over from other tools: their calls, done by strop."""
