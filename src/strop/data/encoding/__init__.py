"""Encoding: rows as token ids, with exactly the supervised ones labelled."""
