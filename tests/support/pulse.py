"""A PulseAudio server for one test, without D-Bus and sound card, with recorded output and generated input."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

TIMEOUT_SECONDS = 60.0


class Pulse:
    """A server in ``folder`` with a speaker (a null sink, mono, ``rate`` Hz) and a microphone (monitor of ``micfeed``).

    ``env``: the environment in which a process sees both as the ALSA devices ``speaker``, ``mic`` and ``default``.
    """

    def __init__(self, folder: Path, rate: int) -> None:
        self.folder, self.rate = folder, rate
        self._socket = folder / "native"
        self._server: subprocess.Popen[bytes] | None = None
        self._recorder: subprocess.Popen[bytes] | None = None
        self.env = {
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "run"),
        }
        (folder / "run").mkdir(parents=True, mode=0o700)
        # Without norewinds an idle null sink sleeps for 2 s, and the first seconds of a stream stall.
        (folder / "default.pa").write_text(
            f"load-module module-native-protocol-unix auth-anonymous=1 socket={self._socket}\n"
            f"load-module module-null-sink sink_name=speaker norewinds=1 format=s16le rate={rate} channels=1\n"
            "load-module module-null-sink sink_name=micfeed norewinds=1 format=s16le rate=16000 channels=1\n"
            "load-module module-remap-source source_name=mic master=micfeed.monitor remix=no\n"
            "set-default-sink speaker\nset-default-source mic\n"
        )
        server = f'server "unix:{self._socket}"'
        (folder / "asound.conf").write_text(
            # Complete, without the system's own configuration of the pulse plugin.
            "pcm_type.pulse { lib libasound_module_pcm_pulse.so }\n"
            f'pcm.speaker {{ type pulse {server} device "speaker" }}\n'
            f'pcm.mic {{ type pulse {server} device "mic" }}\n'
            'pcm.!default { type asym playback.pcm "speaker" capture.pcm "mic" }\n'
        )

    def start(self) -> None:
        """Start the server; return when it accepts clients."""
        self._socket.unlink(missing_ok=True)
        self._server = subprocess.Popen(
            ["pulseaudio", "-n", "-F", str(self.folder / "default.pa"), "--daemonize=no", "--use-pid-file=no",
             "--exit-idle-time=-1", "--disallow-exit", "--realtime=no", "--high-priority=no",
             f"--log-target=file:{self.folder / 'log'}"],
            env={**_base_environment(), **self.env}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=self.folder,
        )  # fmt: skip
        pause = threading.Event()
        for _ in range(round(TIMEOUT_SECONDS / 0.05)):
            if self._pactl("info").returncode == 0:
                return
            pause.wait(0.05)
        raise AssertionError(f"PulseAudio did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill the server, as in a crash."""
        if self._server is not None:
            self._server.send_signal(signal.SIGKILL)
            self._server.wait(TIMEOUT_SECONDS)
            self._server = None

    def freeze(self) -> None:
        """Suspend the server."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)

    def record(self) -> None:
        """Record the output of the speaker; return when the recorder is connected."""
        with (self.folder / "heard.raw").open("wb") as file:
            self._recorder = subprocess.Popen(
                ["parec", "-d", "speaker.monitor", "--raw", "--format=s16le", f"--rate={self.rate}", "--channels=1",
                 "--latency-msec=20"],
                env={**_base_environment(), **self.env}, stdout=file, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        pause = threading.Event()
        for _ in range(round(TIMEOUT_SECONDS / 0.05)):
            if (self.folder / "heard.raw").stat().st_size:
                return
            pause.wait(0.05)
        raise AssertionError("nothing was recorded")

    def heard(self, until: bytes | None = None) -> bytes:
        """Return the recorded audio; wait until it contains ``until``."""
        pause = threading.Event()
        for _ in range(round(TIMEOUT_SECONDS / 0.05)):
            heard = (self.folder / "heard.raw").read_bytes()
            if until is None or until in heard:
                return heard
            pause.wait(0.05)
        return heard

    def say(self, wav: Path) -> None:
        """Play a WAV file into the microphone in real time."""
        subprocess.run(
            ["paplay", "-d", "micfeed", str(wav)],
            env={**_base_environment(), **self.env},
            check=True,
            timeout=TIMEOUT_SECONDS,
        )

    def close(self) -> None:
        if self._recorder is not None:
            self._recorder.kill()
            self._recorder.wait(TIMEOUT_SECONDS)
        self.kill()

    def _pactl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["pactl", *arguments], env={**_base_environment(), **self.env}, capture_output=True, timeout=TIMEOUT_SECONDS
        )


def _base_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY")}
