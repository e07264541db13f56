"""Home Assistant's Assist pipelines with the microphone and the speaker of this device, over Wyoming."""
