"""The wire protocols of the services, each a Client and a Server codec without a socket."""
