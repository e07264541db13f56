"""Connections to services."""
