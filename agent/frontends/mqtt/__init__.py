"""Announcements, control and state over MQTT, for Home Assistant and for fleets of devices."""
