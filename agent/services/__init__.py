"""Remote and local services for speech, transcription and wake words."""
