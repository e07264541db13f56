"""Audio formats, conversion, WAV files, decoders, sound devices and echo cancellation."""
