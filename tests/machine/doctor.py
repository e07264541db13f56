"""``sudo voice-agent doctor`` where the service runs: that it looks as the service, and what it says."""

from __future__ import annotations

import json
from typing import Any

from machine.container import Container

UNIT = "voice-agent.service"
CONFIG = "etc/voice-agent/config.yaml"
CREDENTIALS = "etc/voice-agent/credentials"
ARCHIVE = "/tmp/support.tar.gz"


class Doctor:
    """Each method is one step of a test, with the service running in ``box``."""

    def __init__(self, box: Container) -> None:
        self._box, self._root = box, box.root

    def look(self) -> str:
        """All is fine, it was the service's own user in a sandbox who looked, and the daemon is none the worse."""
        told = self._box.run("voice-agent", "doctor").stdout
        assert "0 broken" in told or "everything is fine" in told, told
        found = self._found()
        pid = self._box.show(UNIT, "MainPID")
        user = self._box.run("ps", "-o", "uid=", "-p", pid).stdout.strip()
        who = str(found["examined by"]["saw"])
        assert user != "0"
        assert f"(uid {user}), inside a sandbox" in who, f"the service has uid {user}, and examined it was by {who}"
        wanted = {"speaker": "takes sound", "local server": "answers", "disk, state": "can be written",
                  "systemd": "ready to speak"}  # fmt: skip
        for subject, word in wanted.items():
            assert found[subject]["verdict"] == "fine" and word in found[subject]["saw"], found[subject]
        assert [subject for subject in found if subject not in told] == []
        self._box.run("voice-agent", "status")  # what the daemon has for itself was not taken away from it
        assert self._box.show(UNIT, "MainPID") == pid, "the daemon was restarted"
        return who

    def name_faults(self, config: str, key: str) -> str:
        """With ``config`` and ``key`` in force, by which services are reached with keys: fine. Then a key that is not
        right, one that only root can read and a card that is not there, all at once."""
        found = self._found()
        handed = found["key synthesis.neuphonic"]
        assert handed["verdict"] == "fine" and "/key_neuphonic, mode 04" in handed["saw"], handed
        for subject in ("service neuphonic", "service transcription", "microphone", "speaker"):
            assert found[subject]["verdict"] == "fine", found[subject]
        (self._root / "root/key").write_text(f"{key}\n")
        wrong = config.replace("{credential: transcription}", "{file: /root/key}")
        try:
            (self._root / CREDENTIALS / "neuphonic").write_text("sk-not-the-right-one\n")
            (self._root / CONFIG).write_text(f'{wrong}speaker: {{device: "plughw:CARD=Nowhere,DEV=0"}}\n')
            found = self._found(78)
        finally:
            (self._root / CREDENTIALS / "neuphonic").write_text(f"{key}\n")
            (self._root / CONFIG).write_text(config)
        cures = {
            "service neuphonic": "sudo install -m 600 /dev/stdin /etc/voice-agent/credentials/neuphonic",
            "key transcription": "sudo install -D -m 600 /root/key /etc/voice-agent/credentials/transcription",
            "speaker": "a line of voice-agent devices for speaker.device (/etc/voice-agent/config.yaml:",
        }
        for subject, cure in cures.items():
            assert found[subject]["verdict"] == "broken" and cure in found[subject]["cure"], found[subject]
        # Without its key there is no getting in either.
        broken = {subject for subject, each in found.items() if each["verdict"] == "broken"}
        assert broken == {*cures, "service transcription"}, broken
        assert "sk-" not in json.dumps(found), "it shows a key"
        self._found()
        return "; ".join(f"{subject}: {found[subject]['saw']}" for subject in cures)

    def pack(self, user: str, key: str) -> str:
        """The archive is for ``user``, who typed sudo: he can read it, and it does not hold ``key``."""
        number = self._box.run("id", "-u", user).stdout.strip()
        sudo = ["env", f"SUDO_UID={number}", f"SUDO_GID={number}"]
        self._box.run(*sudo, "voice-agent", "doctor", "--bundle", ARCHIVE)
        listed = self._box.run("runuser", "-u", user, "--", "tar", "-tzf", ARCHIVE).stdout.split()
        whole = self._box.run("tar", "-xOzf", ARCHIVE).stdout
        assert "inside a sandbox" in whole, "what is in it was not seen by the service"
        assert "ready: " in whole, "the journal is not in it"
        assert key not in whole, "a key is in it"
        return ", ".join(name.rpartition("/")[2] for name in listed)

    def _found(self, code: int = 0) -> dict[str, dict[str, Any]]:
        """What it finds, by subject."""
        done = self._box.run("voice-agent", "doctor", "--json", check=False)
        assert done.returncode == code, f"it ended with {done.returncode}: {done.stdout}{done.stderr}"
        return {found["subject"]: found for found in json.loads(done.stdout)["findings"]}
