"""What a run will take before it begins: memory, seconds a step and in all, with error bars."""
