"""Local recognition engines."""
