"""What is made of records: statistics, tables, claims. Nothing here imports torch."""
