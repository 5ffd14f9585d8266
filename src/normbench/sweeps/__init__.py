"""From RunSpecs to Records: what is finished is read, what is missing is planned and trained."""
