"""The official package wyoming as a client: PORT ACTION ... -> what the server answers, as JSON.

``describe``; ``speak TEXT``; ``stream PIECE...``; ``transcribe WAV``.
"""

import asyncio
import hashlib
import json
import sys
import wave

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop, wav_to_chunks
from wyoming.client import AsyncClient
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped

port, action, *arguments = sys.argv[1:]


async def audio(client, last):
    """Read until the event ``last``; return what the audio was."""
    sound, types, rate = b"", [], None
    while (event := await client.read_event()) is not None:
        if not types or types[-1] != event.type:
            types.append(event.type)
        if AudioStart.is_type(event.type):
            rate = AudioStart.from_event(event).rate
        elif AudioChunk.is_type(event.type):
            sound += AudioChunk.from_event(event).audio
        elif last.is_type(event.type):
            break
    return {"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound), "types": types, "rate": rate}


async def describe(client):
    await client.write_event(Ping(text="x").event())
    assert Pong.from_event(await client.read_event()).text == "x"
    await client.write_event(Describe().event())
    info = Info.from_event(await client.read_event())
    return {
        "voices": [[voice.name, voice.languages] for program in info.tts for voice in program.voices],
        "models": [[model.name, model.languages] for program in info.asr for model in program.models],
        "streams": [program.supports_synthesize_streaming for program in info.tts],
    }


async def speak(client):
    results = []
    for text in arguments:
        await client.write_event(Synthesize(text=text).event())
        results.append(await audio(client, AudioStop))
    return results


async def stream(client):
    await client.write_event(SynthesizeStart().event())
    for piece in arguments:
        await client.write_event(SynthesizeChunk(text=piece).event())
    await client.write_event(Synthesize(text="".join(arguments)).event())  # as Home Assistant does
    await client.write_event(SynthesizeStop().event())
    return await audio(client, SynthesizeStopped)


async def transcribe(client):
    await client.write_event(Transcribe(language="en").event())
    with wave.open(arguments[0], "rb") as file:
        for event in wav_to_chunks(file, 1024, start_event=True, stop_event=True):
            await client.write_event(event.event())
    result = {"chunks": ""}
    while (event := await client.read_event()) is not None:
        if Transcript.is_type(event.type):
            result["text"] = Transcript.from_event(event).text
        elif TranscriptChunk.is_type(event.type):
            result["chunks"] += TranscriptChunk.from_event(event).text
        elif TranscriptStop.is_type(event.type):
            break
    return result


async def main():
    async with AsyncClient.from_uri(f"tcp://127.0.0.1:{port}") as client:
        print(
            json.dumps(
                await {"describe": describe, "speak": speak, "stream": stream, "transcribe": transcribe}[action](client)
            )
        )


asyncio.run(main())
