"""Spoken requests about the device itself, recognized without a network."""
