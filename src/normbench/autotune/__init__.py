"""The width and layout of stacks and the cost of a step: measured on this machine, or by default."""
