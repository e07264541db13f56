"""Threads, signals, systemd, logs, paths and files."""
