"""How wide a stack is and which layout it has on this machine: measured, remembered, or from a table."""
