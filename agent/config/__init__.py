"""Generic configuration engine; it knows no key."""
