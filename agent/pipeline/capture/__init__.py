"""Turns microphone audio into frames, and detects where speech starts and ends."""
