"""Reads any usual format, checks it, renders it, marks exactly which tokens carry loss."""
