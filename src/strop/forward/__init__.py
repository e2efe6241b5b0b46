"""The forward pass that trains: kept tokens, known blocks through strop's halves, the fused head."""
