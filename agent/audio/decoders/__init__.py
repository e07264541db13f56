"""Audio decoders."""
