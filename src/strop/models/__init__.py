"""Finds and loads models, puts our layers in and takes them out, holds the one forward seam."""
