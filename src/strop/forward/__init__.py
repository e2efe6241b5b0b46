"""Forward pass of training: compacted tokens, known blocks through strop's halves, the fused head."""
