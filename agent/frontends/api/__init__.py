"""The methods and events for other programs, as JSON-RPC 2.0, without a transport."""
