"""Which layers get an adapter, how it starts, what no export could merge; and training without one."""
