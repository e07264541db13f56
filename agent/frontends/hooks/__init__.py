"""Commands that the daemon starts for events."""
