"""The local speech server."""
