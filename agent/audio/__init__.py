"""Audio formats, conversion, decoders and devices."""
