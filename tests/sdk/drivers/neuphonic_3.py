"""pyneuphonic 3: PORT KEY TEXT -> {"sha256", "length", "stops"}. The text goes raw, the end as the SDK sends it."""

import asyncio
import hashlib
import json
import sys

from pyneuphonic import Neuphonic, TTSConfig, WebsocketEvents


async def main() -> None:
    port, key, text = sys.argv[1:4]
    ws = Neuphonic(api_key=key, base_url=f"localhost:{port}").tts.AsyncWebsocketClient()
    sound, stopped = bytearray(), asyncio.Event()

    async def on_message(message) -> None:
        if message.data.audio:
            sound.extend(message.data.audio)
        if message.data.stop:
            stopped.set()

    ws.on(WebsocketEvents.MESSAGE, on_message)
    try:
        await ws.open(TTSConfig(lang_code="en", sampling_rate=24000, speed=1.05))
    except Exception as error:  # noqa: BLE001 - every exception of the package is reported
        print(json.dumps({"error": str(error)}))
        return
    await ws.send(text, autocomplete=True)
    await asyncio.wait_for(stopped.wait(), 30)
    await ws.close()
    print(json.dumps({"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound)}))


asyncio.run(main())
