"""What the documentation site adds to docs/: pages that are made from the code and from results."""
