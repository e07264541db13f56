"""The API for other programs: methods and events as JSON-RPC 2.0, independent of the transport."""
