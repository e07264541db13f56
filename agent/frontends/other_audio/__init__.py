"""Other players, which are ducked or paused while the device listens or speaks."""
