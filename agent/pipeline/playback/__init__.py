"""Audio to the speaker."""
