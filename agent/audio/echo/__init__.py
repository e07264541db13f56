"""Cancels the echo of the device's own speaker in the audio of the microphone."""
