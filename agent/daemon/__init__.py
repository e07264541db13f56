"""Builds the daemon, runs its main loop, and stores its data."""
