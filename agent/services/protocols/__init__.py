"""Wire protocols as objects without sockets."""
