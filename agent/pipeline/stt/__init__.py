"""Frames to transcripts."""
