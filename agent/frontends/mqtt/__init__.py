"""The MQTT frontend: announcements, commands and the state, for Home Assistant and for fleets of devices."""
