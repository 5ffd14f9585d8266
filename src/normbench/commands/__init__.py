"""The verbs of the command line, a module each with `run(argv) -> exit code`, and what they share."""
