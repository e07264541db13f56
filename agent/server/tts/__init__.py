"""Local speech engines."""
