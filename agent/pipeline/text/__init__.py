"""Text between a responder or a caller and the speech service: reasoning and markup removed, sentences split."""
