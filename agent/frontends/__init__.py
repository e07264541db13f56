"""Interfaces through which other programs control the daemon."""
