"""The device as a satellite of Home Assistant: its Assist pipelines use the microphone and the speaker over Wyoming."""
