"""The button and the light of the device."""
