"""Which layers get an adapter, how it starts, and what of it no export could merge."""
