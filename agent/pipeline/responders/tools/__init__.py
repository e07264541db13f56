"""Tools that a language model may call while it replies."""
