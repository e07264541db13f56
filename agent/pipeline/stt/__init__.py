"""Turns frames into transcripts."""
