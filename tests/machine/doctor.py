"""``sudo voice-agent doctor`` on a machine with the running service: it checks as the service, and reports faults."""

from __future__ import annotations

import json
from typing import Any

from machine.container import Container

UNIT = "voice-agent.service"
CONFIG = "etc/voice-agent/config.yaml"
CREDENTIALS = "etc/voice-agent/credentials"
ARCHIVE = "/tmp/support.tar.gz"


class Doctor:
    """Steps of a test with the doctor; the service runs in ``box``."""

    def __init__(self, box: Container) -> None:
        self._box, self._root = box, box.root

    def check_without_faults(self) -> str:
        """Without faults there is no error, the checks run as the service's user, and the daemon is undisturbed."""
        report = self._box.run("voice-agent", "doctor").stdout
        assert "errors: 0," in report, report
        results = self._results()
        pid = self._box.show(UNIT, "MainPID")
        uid = self._box.run("ps", "-o", "uid=", "-p", pid).stdout.strip()
        examined_by = str(results["examined by"]["saw"])
        assert uid != "0"
        assert f"(uid {uid}), inside a sandbox" in examined_by, (
            f"uid of the service: {uid}, of the doctor: {examined_by}"
        )
        expected = {"speaker": "plays", "local server": "answers", "disk, state": "can be written",
                    "systemd": "ready to speak"}  # fmt: skip
        for subject, words in expected.items():
            assert results[subject]["verdict"] == "ok" and words in results[subject]["saw"], results[subject]
        assert [subject for subject in results if subject not in report] == []
        self._box.run("voice-agent", "status")  # the control socket of the daemon still exists
        assert self._box.show(UNIT, "MainPID") == pid, "the daemon was restarted"
        return examined_by

    def check_with_faults(self, config: str, key: str) -> str:
        """Three faults at once are reported: a wrong key, a key that only root can read, and a missing card.

        Args:
            config: The configuration in force, with services that need keys and are fine.
            key: The key in force.
        """
        results = self._results()
        credential = results["key synthesis.neuphonic"]
        assert credential["verdict"] == "ok" and "/key_neuphonic, mode 04" in credential["saw"], credential
        for subject in ("service neuphonic", "service transcription", "microphone", "speaker"):
            assert results[subject]["verdict"] == "ok", results[subject]
        (self._root / "root/key").write_text(f"{key}\n")
        faulty = config.replace("{credential: transcription}", "{file: /root/key}")
        try:
            (self._root / CREDENTIALS / "neuphonic").write_text("sk-not-the-right-one\n")
            (self._root / CONFIG).write_text(f'{faulty}speaker: {{device: "plughw:CARD=Nowhere,DEV=0"}}\n')
            results = self._results(78)
        finally:
            (self._root / CREDENTIALS / "neuphonic").write_text(f"{key}\n")
            (self._root / CONFIG).write_text(config)
        cures = {
            "service neuphonic": "sudo install -m 600 /dev/stdin /etc/voice-agent/credentials/neuphonic",
            "key transcription": "sudo install -D -m 600 /root/key /etc/voice-agent/credentials/transcription",
            "speaker": "a line of voice-agent devices for speaker.device (/etc/voice-agent/config.yaml:",
        }
        for subject, cure in cures.items():
            assert results[subject]["verdict"] == "error" and cure in results[subject]["cure"], results[subject]
        # Without its key the transcription service refuses the connection as well.
        errors = {subject for subject, result in results.items() if result["verdict"] == "error"}
        assert errors == {*cures, "service transcription"}, errors
        assert "sk-" not in json.dumps(results), "a result contains a key"
        self._results()
        return "; ".join(f"{subject}: {results[subject]['saw']}" for subject in cures)

    def write_bundle(self, user: str, key: str) -> str:
        """The archive can be read by ``user``, who types sudo, and does not contain ``key``."""
        uid = self._box.run("id", "-u", user).stdout.strip()
        sudo = ["env", f"SUDO_UID={uid}", f"SUDO_GID={uid}"]
        self._box.run(*sudo, "voice-agent", "doctor", "--bundle", ARCHIVE)
        names = self._box.run("runuser", "-u", user, "--", "tar", "-tzf", ARCHIVE).stdout.split()
        contents = self._box.run("tar", "-xOzf", ARCHIVE).stdout
        assert "inside a sandbox" in contents, "the checks did not run as the service"
        assert "ready: " in contents, "the archive does not contain the journal"
        assert key not in contents, "the archive contains a key"
        return ", ".join(name.rpartition("/")[2] for name in names)

    def _results(self, code: int = 0) -> dict[str, dict[str, Any]]:
        """Return the results by subject; the doctor has to exit with ``code``."""
        done = self._box.run("voice-agent", "doctor", "--json", check=False)
        assert done.returncode == code, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
        return {result["subject"]: result for result in json.loads(done.stdout)["findings"]}
