"""One weight map per file, named by its key: `weight=ws` is `ws.py`."""
