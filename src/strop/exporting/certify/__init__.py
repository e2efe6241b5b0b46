"""Opens what was exported as others do, and compares it with what was trained."""
