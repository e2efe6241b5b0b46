"""Turns rows into token ids and marks exactly which of them carry loss."""
