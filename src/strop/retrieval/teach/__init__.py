"""New knowledge: training on documents and on what was written about them, and its proof."""
