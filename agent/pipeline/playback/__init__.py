"""Plays the audio of the utterances on the speaker."""
