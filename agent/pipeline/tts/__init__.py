"""Text to speech: sends text to speech services and writes their audio into the ring buffer."""
