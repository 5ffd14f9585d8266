"""Replace (`convert`), add (`insert`), remove (`fold`) or supply (`layer`) norms of models from elsewhere."""
