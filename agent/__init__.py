"""voice-agent: a synchronous, threaded daemon that listens, asks, and speaks."""

__version__ = "0.1.0"
