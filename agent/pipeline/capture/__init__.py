"""Microphone to frames and speech boundaries."""
