"""Values of settings that cannot work, by what they are about."""
