"""Responders: the sources of the replies to transcripts."""
