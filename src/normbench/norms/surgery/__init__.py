"""Norms in models that were built without this package: put in (`convert`), taken out (`fold`)."""
