"""Reads records from files, folders, tables and objects, and makes rows of them."""
