"""``transcribe`` with vosk-server: the sample rate first, a reply to every frame, and one end mark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.agent_fixtures import Start, write_wav
from support.scripted import Peer, Scripted, close_frame
from support.speech_services import client_messages, frames_of

from agent.services.protocols import transcription
from agent.services.protocols.codec import Audio, End, Message, Transcript


def test_vosk_server_receives_the_sample_rate_and_its_end_mark(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    received: list[Message] = []

    def script(peer: Peer) -> None:
        """Behave as vosk-server: no reply to the configuration, a partial for each frame, a final for the end mark."""
        peer.accept()
        codec = transcription.Server()
        for message in client_messages(peer):
            received.append(message)
            for event in codec.receive(message):
                assert isinstance(event, Audio | End), event  # vosk-server closes with 1011 after any other message
                is_final = isinstance(event, End)
                transcript = Transcript("hello world" if is_final else "hello", is_final)
                peer.send(b"".join(frames_of(codec.send(transcript))))
                if is_final:
                    peer.send(close_frame(1000))
                    return

    path = tmp_path / "asked.wav"
    write_wav(path, bytes(32000))
    with Scripted(script) as server:
        config = write_config(f"transcription: {{url: 'ws://127.0.0.1:{server.port}/', dialect: vosk}}")
        process = agent("transcribe", "--config", config, str(path))
        assert process.end() == 0
    assert process.output.strip() == "hello world"
    assert received[0] == '{"config": {"sample_rate": 16000}}' and received[-1] == '{"eof" : 1}'
    assert sum(len(message) for message in received if isinstance(message, bytes)) == 32000
