"""Training of stacks: K runs as one network, on a CPU or a GPU, by the same code."""
