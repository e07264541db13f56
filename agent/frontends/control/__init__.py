"""The control socket: server, client and protocol."""
