"""WebSocket connections, TCP connections and HTTP requests to services."""
