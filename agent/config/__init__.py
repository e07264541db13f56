"""Generic configuration engine without knowledge of single keys."""
