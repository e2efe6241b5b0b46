"""Answers OpenAI-style requests from a finished run."""
