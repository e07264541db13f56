"""pyneuphonic 1.1.1, of the document's date: PORT KEY TEXT LENGTH -> {"sha256", "length"}. It knows no end mark."""

import asyncio
import hashlib
import json
import sys

from pyneuphonic import Neuphonic, TTSConfig, WebsocketEvents


async def main() -> None:
    port, key, text, length = sys.argv[1:5]
    ws = Neuphonic(api_key=key, base_url=f"localhost:{port}").tts.AsyncWebsocketClient()
    sound, complete = bytearray(), asyncio.Event()

    async def on_message(message) -> None:
        sound.extend(message.data.audio)
        if len(sound) >= int(length):
            complete.set()

    ws.on(WebsocketEvents.MESSAGE, on_message)
    await ws.open(TTSConfig(sampling_rate=22050))
    await ws.send(text, autocomplete=True)
    await asyncio.wait_for(complete.wait(), 30)
    await ws.close()
    print(json.dumps({"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound)}))


asyncio.run(main())
