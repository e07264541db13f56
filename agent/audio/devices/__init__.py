"""Sound cards and files as sources and sinks."""
