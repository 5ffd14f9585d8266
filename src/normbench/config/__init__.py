"""From the words of a command to one RunSpec per run: Hydra composes, normbench checks and explains."""
