"""The pipeline: turns microphone audio into transcripts, transcripts into replies, and replies into speech."""
