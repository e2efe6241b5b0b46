"""What a teacher knows of texts: its hidden rows, its likeliest tokens on disk, its answers."""
