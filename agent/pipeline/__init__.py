"""Microphone to transcript to reply to speech to speaker."""
