"""Builds, runs, resumes and records a TRL trainer."""
