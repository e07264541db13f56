"""pyneuphonic: PORT TEXT; writes PCM to stdout as it arrives."""

import asyncio
import os
import sys

from pyneuphonic import Neuphonic, TTSConfig, WebsocketEvents


async def main() -> None:
    port, text = sys.argv[1:3]
    client = Neuphonic(api_key="key", base_url=f"localhost:{port}").tts.AsyncWebsocketClient()
    stopped = asyncio.Event()

    async def on_message(message: object) -> None:
        if message.data.audio:
            os.write(1, message.data.audio)
        if message.data.stop:
            stopped.set()

    client.on(WebsocketEvents.MESSAGE, on_message)
    await client.open(TTSConfig(lang_code="en", sampling_rate=22050))
    await client.send(text, autocomplete=True)
    await stopped.wait()
    await client.close()


asyncio.run(main())
