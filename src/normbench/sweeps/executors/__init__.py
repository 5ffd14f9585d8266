"""Executors: who works on the packs of a sweep. This process, a local pool, or jobs of a cluster."""
