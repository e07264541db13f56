"""Sound without threads: formats, stores, containers, decoders, devices."""
