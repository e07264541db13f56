"""The control socket: what may be said over it, by whom, and how fast."""
