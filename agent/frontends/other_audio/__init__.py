"""Ducks or pauses other players while the device listens, thinks or speaks."""
