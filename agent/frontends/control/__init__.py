"""The control socket, through which programs of this machine use the API."""
