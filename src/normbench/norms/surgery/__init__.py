"""Put norms into models that were built without this package (`convert`), or take them out (`fold`)."""
