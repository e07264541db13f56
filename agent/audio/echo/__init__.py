"""Cancelling of the echo of the own loudspeaker in the audio of the microphone."""
