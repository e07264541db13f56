"""Doors for the outside: each turns what comes in into events for the inbox."""
