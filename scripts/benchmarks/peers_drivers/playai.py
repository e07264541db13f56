"""pyht: PORT TEXT; writes PCM to stdout as it arrives."""

import os
import sys

from pyht import Client
from pyht.client import Format, TTSOptions
from pyht.inference_coordinates import InferenceCoordinatesOptions

port, text = sys.argv[1:3]
coordinates = InferenceCoordinatesOptions(api_url=f"http://127.0.0.1:{port}/api/v4")
advanced = Client.AdvancedOptions(inference_coordinates_options=coordinates)
client = Client("a user", "key", auto_connect=False, advanced=advanced)
options = TTSOptions(voice="s3://voice/manifest.json", format=Format.FORMAT_WAV, sample_rate=24000)
for pcm in client.tts(text, options, voice_engine="Play3.0-mini", protocol="ws"):
    os.write(1, pcm)
client.close()
