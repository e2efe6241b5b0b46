"""Writes Ollama's Modelfile."""
