"""The configuration: YAML in, frozen dataclasses out, every mistake at once."""
