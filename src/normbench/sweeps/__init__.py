"""From RunSpecs to Records: finished runs are read, missing runs are planned and trained."""
