"""The services' own packages, unchanged, against the local server: what they receive is bit for bit the tones."""

from __future__ import annotations

import hashlib

import pytest
from support.local_server import LocalServerProcess
from support.sdk_environments import KEY, Environment

from agent.server.tts import tone

TEXT = "Hello there, my friend! How are you today? I am fine, thank you."

# Making an environment takes a few seconds and, on a slow line, minutes.
pytestmark = pytest.mark.timeout(400)


def _tones(text: str, rate: int) -> dict[str, object]:
    sound = tone.pcm(text, rate)
    return {"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound)}


class TestPyneuphonic3:
    @pytest.fixture(scope="class")
    @classmethod
    def sdk(cls) -> Environment:
        return Environment("pyneuphonic==3.1.2")

    def test_it_receives_the_tones_and_the_stop(self, sdk: Environment, keyed_server: LocalServerProcess) -> None:
        assert sdk.run("neuphonic_3", keyed_server.port, KEY, TEXT) == _tones(TEXT, 24000)

    def test_its_wrong_key_is_refused(self, sdk: Environment, keyed_server: LocalServerProcess) -> None:
        assert (
            "Connection to Neuphonic server failed" in sdk.run("neuphonic_3", keyed_server.port, "wrong", TEXT)["error"]
        )


def test_pyneuphonic_of_the_documents_date_receives_the_tones(keyed_server: LocalServerProcess) -> None:
    sdk = Environment("pyneuphonic==1.1.1", "httpx")
    expected = _tones(TEXT, 22050)
    assert sdk.run("neuphonic_1", keyed_server.port, KEY, TEXT, expected["length"]) == expected


class TestFishAudio:
    @pytest.fixture(scope="class")
    @classmethod
    def sdk(cls) -> Environment:
        return Environment("fish-audio-sdk==1.3.0")

    @pytest.mark.parametrize("driver", ["fish_new", "fish_legacy"])
    def test_it_receives_the_tones_and_the_finish(
        self, sdk: Environment, keyed_server: LocalServerProcess, driver: str
    ) -> None:
        pieces = ["Hello there, ", "my friend! ", "How are you?"]
        assert sdk.run(driver, keyed_server.port, KEY, "pcm", *pieces) == _tones("".join(pieces), 44100)

    def test_it_receives_a_wav_with_one_header(self, sdk: Environment, keyed_server: LocalServerProcess) -> None:
        result = sdk.run("fish_new", keyed_server.port, KEY, "wav", "One two three.")
        assert result["length"] == 44 + len(tone.pcm("One two three.", 44100))

    @pytest.mark.parametrize("name", ["mp3", "opus"])
    def test_it_receives_compressed_sound(self, sdk: Environment, keyed_server: LocalServerProcess, name: str) -> None:
        assert sdk.run("fish_new", keyed_server.port, KEY, name, "One two three.")["length"] > 1000

    def test_its_wrong_key_is_refused(self, sdk: Environment, keyed_server: LocalServerProcess) -> None:
        assert "error" in sdk.run("fish_new", keyed_server.port, "wrong", "pcm", "One.")


class TestPyht:
    @pytest.fixture(scope="class")
    @classmethod
    def sdk(cls) -> Environment:
        return Environment("pyht==0.1.14")

    @pytest.mark.parametrize(("wanted", "head"), [("WAV", b"RIFF".hex()), ("RAW", "0000")])
    def test_it_asks_for_an_address_and_receives_the_tones_of_one_request_after_the_other(
        self, sdk: Environment, keyed_server: LocalServerProcess, wanted: str, head: str
    ) -> None:
        result = sdk.run("pyht_ws", keyed_server.port, KEY, wanted, TEXT, "And again.")
        assert [{"sha256": each["sha256"], "length": each["length"]} for each in result] == [
            _tones(TEXT, 24000), _tones("And again.", 24000),
        ]  # fmt: skip
        assert all(each["head"].startswith(head) for each in result)

    def test_its_wrong_key_is_refused(self, sdk: Environment, keyed_server: LocalServerProcess) -> None:
        assert "error" in sdk.run("pyht_ws", keyed_server.port, "wrong", "WAV", "One.")


class TestGnaniVachana:
    @pytest.fixture(scope="class")
    @classmethod
    def sdk(cls) -> Environment:
        return Environment("gnani-vachana==0.8.2")

    @pytest.mark.parametrize("rate", [16000, 48000])
    def test_it_receives_the_tones_and_the_complete(
        self, sdk: Environment, keyed_server: LocalServerProcess, rate: int
    ) -> None:
        assert sdk.run("vachana", keyed_server.port, KEY, "raw", rate, TEXT) == _tones(TEXT, rate)

    def test_it_receives_a_wav(self, sdk: Environment, keyed_server: LocalServerProcess) -> None:
        # The package itself lets a header that comes alone through, and takes off every other.
        length = len(tone.pcm(TEXT, 44100))
        assert sdk.run("vachana", keyed_server.port, KEY, "wav", 44100, TEXT)["length"] in (length, length + 44)

    def test_its_wrong_key_is_refused(self, sdk: Environment, keyed_server: LocalServerProcess) -> None:
        assert "401" in sdk.run("vachana", keyed_server.port, "wrong", "raw", 16000, TEXT)["error"]
