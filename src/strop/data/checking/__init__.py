"""Looks for faults in rows and mends what can be mended."""
