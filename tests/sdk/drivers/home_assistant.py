"""Home Assistant's integration "wyoming", unchanged: ``services PORT TEXT WAV`` or ``satellite PORT TEXT REPLY``.

Its pipeline is replaced by one that needs no configuration: it reads the audio to its end and reports fixed results.
"""

import asyncio
import io
import json
import sys
import tempfile
import wave
from types import SimpleNamespace
from unittest.mock import patch

from homeassistant.components import assist_pipeline, stt, tts
from homeassistant.components.assist_pipeline import PipelineEvent
from homeassistant.components.assist_pipeline import PipelineEventType as Type
from homeassistant.components.wyoming import satellite as module
from homeassistant.components.wyoming.data import WyomingService
from homeassistant.components.wyoming.devices import SatelliteDevice
from homeassistant.components.wyoming.stt import WyomingSttProvider
from homeassistant.components.wyoming.tts import WyomingTtsProvider
from homeassistant.core import HomeAssistant

action, port, text, last = sys.argv[1:]


async def service():
    for _ in range(300):
        found = await WyomingService.create("127.0.0.1", int(port))
        if found is not None:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("there is no service")


async def services():
    found, entry = await service(), SimpleNamespace(entry_id="1")
    voice, recognizer = WyomingTtsProvider(entry, found), WyomingSttProvider(entry, found)
    kind, sound = await voice.async_get_tts_audio(text, "en", {})
    with wave.open(io.BytesIO(sound)) as file:
        seconds = file.getnframes() / file.getframerate()

    async def audio():
        with wave.open(last, "rb") as file:
            while data := file.readframes(1024):
                yield data

    metadata = SimpleNamespace(language="en")
    result = await recognizer.async_process_audio_stream(metadata, audio())
    return {
        "platforms": [str(platform) for platform in found.platforms],
        "languages": [voice.supported_languages, recognizer.supported_languages],
        "audio": [kind, round(seconds, 1)],
        "text": result.text,
        "is_success": result.result is stt.SpeechResultState.SUCCESS,
    }


async def satellite():
    found, received, over = await service(), bytearray(), asyncio.Event()

    async def pipeline(hass, *, event_callback, stt_stream, start_stage, end_stage, wake_word_phrase=None, **more):
        event_callback(PipelineEvent(Type.STT_START, {"metadata": {"language": "en"}}))
        async for chunk in stt_stream:
            received.extend(chunk)
        event_callback(PipelineEvent(Type.STT_END, {"stt_output": {"text": text}}))
        event_callback(PipelineEvent(Type.TTS_START, {"tts_input": last, "language": "en", "voice": "v"}))
        event_callback(PipelineEvent(Type.TTS_END, {"tts_output": {"media_id": "m"}}))
        event_callback(PipelineEvent(Type.RUN_END, None))

    async def media(hass, media_id):
        with io.BytesIO() as data:
            with wave.open(data, "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(b"\x10\x27" * 16000)
            return "wav", data.getvalue()

    class Satellite(module.WyomingSatellite):
        """Notes the end of the playback, which this version of Home Assistant ignores."""

        async def _connect(self):
            await super()._connect()
            read = self._client.read_event

            async def read_event():
                event = await read()
                if event is not None and event.type == "played":
                    over.set()
                return event

            self._client.read_event = read_event

    hass = HomeAssistant(tempfile.gettempdir())
    device = SatelliteDevice(satellite_id="s", device_id="d")
    chosen = SimpleNamespace(name="p", language="en")
    with (
        patch.object(module.pipeline_select, "get_chosen_pipeline", return_value="p"),
        patch.object(assist_pipeline, "async_get_pipeline", return_value=chosen),
        patch.object(assist_pipeline, "async_pipeline_from_audio_stream", pipeline),
        patch.object(tts, "async_get_media_source_audio", media),
    ):
        running = Satellite(hass, found, device)
        task = asyncio.create_task(running.run())
        await asyncio.wait_for(over.wait(), 60)
        running.stop()
        task.cancel()
    info = found.info.satellite
    return {"area": info.area, "platforms": list(map(str, found.platforms)), "has_audio": len(received) > 16000}


print(json.dumps(asyncio.run({"services": services, "satellite": satellite}[action]())))
