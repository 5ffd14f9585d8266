"""Stores that become one, and stores of earlier versions that become stores of today.

`join` brings one run into a store · `stores` walks over the runs of other stores · `migration` brings records
of schema 1 to the folders of today · `run_files` what travels with a run · `comparison` whether two records
have the same results.
"""
