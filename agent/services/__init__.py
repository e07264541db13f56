"""Remote speech services."""
