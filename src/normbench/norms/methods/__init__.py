"""One normalization method per file, named by its key: `norm=bn` is `bn.py`."""
