"""How the outside reaches the daemon."""
