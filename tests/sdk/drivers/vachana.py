"""gnani-vachana: PORT KEY CONTAINER RATE TEXT -> {"sha256", "length", "pieces"} or {"error"}."""

import asyncio
import hashlib
import json
import sys

from gnani.tts import AudioConfig, GnaniTTSRealtimeClient


async def main() -> None:
    port, key, container, rate, text = sys.argv[1:6]
    client = GnaniTTSRealtimeClient(api_key=key, base_url=f"http://127.0.0.1:{port}")
    config = AudioConfig(
        sample_rate=int(rate), encoding="linear_pcm", num_channels=1, sample_width=2, container=container
    )
    sound = bytearray()
    try:
        async for chunk in client.synthesize(text, voice="Pranav", audio_config=config):
            sound.extend(chunk)
        print(json.dumps({"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound)}))
    except Exception as error:  # noqa: BLE001 - every exception of the package is reported
        print(json.dumps({"error": f"{type(error).__name__} {error}"}))


asyncio.run(main())
