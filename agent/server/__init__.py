"""The local speech server: real engines behind the same five protocols as the services."""
