"""Sources of replies to transcripts."""
