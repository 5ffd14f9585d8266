"""Diagnostics of a stack at points of its curve, one probe per file, named as in `normbench.diagnostics`.

A probe reads the network between two steps, for all lanes at once. What it changes is put back, so training
with probes has the bits of training without.
"""
