"""The interfaces of the daemon to users and to other programs."""
