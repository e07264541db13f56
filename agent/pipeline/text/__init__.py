"""Prepares text for the speech service: removes reasoning and markup, and splits text into sentences."""
