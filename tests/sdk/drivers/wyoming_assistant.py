"""The official package wyoming in the place of Home Assistant: PORT TEXT REPLY -> what the satellite sends, as JSON.

One pipeline (speech, transcript TEXT, the reply REPLY with one second of audio), then an announcement and a timer.
"""

import asyncio
import contextlib
import json
import sys

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.pipeline import RunPipeline
from wyoming.satellite import RunSatellite
from wyoming.snd import Played
from wyoming.timer import TimerFinished, TimerStarted
from wyoming.tts import Synthesize

port, text, reply = sys.argv[1:]
FORMAT = {"rate": 16000, "width": 2, "channels": 1}
SOUND = b"\x10\x27" * 16000


async def until(client, kind, audio=None):
    while (event := await client.read_event()) is not None:
        if audio is not None and AudioChunk.is_type(event.type):
            audio += AudioChunk.from_event(event).audio
        if kind.is_type(event.type):
            return event
    raise AssertionError(f"the satellite disconnected before {kind.__name__}")


async def speak(client):
    await client.write_event(AudioStart(**FORMAT).event())
    for start in range(0, len(SOUND), 2048):
        await client.write_event(AudioChunk(audio=SOUND[start : start + 2048], **FORMAT).event())
    await client.write_event(AudioStop().event())


async def connect():
    """Connect as soon as the satellite listens."""
    for _ in range(300):
        client = AsyncClient.from_uri(f"tcp://127.0.0.1:{port}")
        try:
            await client.connect()
            return client
        except OSError:
            await asyncio.sleep(0.1)
    raise AssertionError("the satellite does not listen")


async def main():
    result = {}
    async with contextlib.AsyncExitStack() as stack:
        client = await connect()
        stack.push_async_callback(client.disconnect)
        await client.write_event(RunSatellite().event())
        await client.write_event(Describe().event())
        satellite = Info.from_event(await until(client, Info)).satellite
        result["satellite"] = [satellite.area, satellite.has_vad]
        await client.write_event(Ping(text="x").event())
        await until(client, Pong)
        run = RunPipeline.from_event(await until(client, RunPipeline))
        result["stages"] = [run.start_stage.value, run.end_stage.value]
        audio = bytearray()
        await until(client, AudioStop, audio)
        result["has_audio"] = len(audio) > 16000
        await client.write_event(Transcript(text=text).event())
        await client.write_event(Synthesize(text=reply).event())
        await speak(client)
        await until(client, Played)
        await speak(client)  # an announcement
        await until(client, Played)
        await client.write_event(TimerStarted(id="1", total_seconds=1, name="tea").event())
        await client.write_event(TimerFinished(id="1").event())
        await client.write_event(Ping(text="end").event())
        await until(client, Pong)
        print(json.dumps(result))


asyncio.run(main())
