"""Audio encoders of the local speech server."""
