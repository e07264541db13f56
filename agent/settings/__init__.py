"""The whole configuration, composed from the settings of the parts."""
