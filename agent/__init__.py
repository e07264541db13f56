"""voice-agent: a synchronous, threaded daemon that listens, requests replies, and speaks."""

__version__ = "0.1.0"
