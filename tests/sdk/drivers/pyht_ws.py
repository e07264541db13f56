"""pyht: PORT KEY FORMAT TEXT... -> [{"sha256", "length", "head"}], one for each text, over one client."""

import hashlib
import json
import sys

from pyht import Client
from pyht.client import Format, TTSOptions
from pyht.inference_coordinates import InferenceCoordinatesOptions

port, key, wanted, *texts = sys.argv[1:]
coordinates = InferenceCoordinatesOptions(api_url=f"http://127.0.0.1:{port}/api/v4")
client = Client(
    "a user",
    key,
    auto_connect=False,
    advanced=Client.AdvancedOptions(inference_coordinates_options=coordinates),
)
results = []
try:
    for text in texts:
        options = TTSOptions(voice="s3://voice/manifest.json", format=Format[f"FORMAT_{wanted}"], sample_rate=24000)
        sound = b"".join(client.tts(text, options, voice_engine="Play3.0-mini", protocol="ws"))
        body = sound[44:] if sound.startswith(b"RIFF") else sound
        results.append({"sha256": hashlib.sha256(body).hexdigest(), "length": len(body), "head": sound[:4].hex()})
    print(json.dumps(results))
except Exception as error:  # noqa: BLE001 - every exception of the package is reported
    print(json.dumps({"error": f"{type(error).__name__} {error}"}))
finally:
    client.close()
