"""WebSocket connections and HTTP sessions to services."""
