"""gnani-vachana: PORT TEXT; writes PCM to stdout as it arrives."""

import asyncio
import os
import sys

from gnani.tts import AudioConfig, GnaniTTSRealtimeClient


async def main() -> None:
    port, text = sys.argv[1:3]
    client = GnaniTTSRealtimeClient(api_key="key", base_url=f"http://127.0.0.1:{port}")
    config = AudioConfig(sample_rate=44100, encoding="linear_pcm", num_channels=1, sample_width=2, container="wav")
    async for pcm in client.synthesize(text, voice="Pranav", audio_config=config):
        os.write(1, pcm)


asyncio.run(main())
