"""Transcripts to replies."""
