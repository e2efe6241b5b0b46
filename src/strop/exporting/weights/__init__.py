"""The weights that an export writes: base, update, and what rounds them well."""
