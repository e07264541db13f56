"""The checks of ``voice-agent doctor``."""
