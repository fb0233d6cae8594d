"""Training: one loop, a table of methods that each leave gradients behind, for pixels and token embeddings alike."""
