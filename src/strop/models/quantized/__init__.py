"""Models in few bits: made when they are loaded, stored in folders, opened by transformers."""
