"""One module for each language of spoken requests."""
