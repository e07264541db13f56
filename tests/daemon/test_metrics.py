"""The metrics: the counts of each event, and the format by the parsers of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.promtool import promtool
from support.timing import Clock

from agent.daemon.metrics import Histogram, Metric, Metrics
from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    FRAME_QUEUE_OVERRUN,
    MICROPHONE_OVERRUN,
    Announce,
    AudioArrived,
    DeviceLost,
    Gap,
    Heard,
    NearMiss,
    PlaybackStarted,
    ServiceDown,
    ServiceUp,
    SpeechEnded,
    Underruns,
    Woken,
)
from agent.pipeline.status import CurrentUtterance, DeviceState, ServiceState, Status
from agent.pipeline.utterance import Urgency, Utterance

IDLE = Status(
    "listening",
    "idle",
    volume=80,
    queue=2,
    services=(ServiceState("fish", "speech", "ready", breaker="open"), ServiceState("rules", "reply", "unknown")),
    devices=(DeviceState("microphone", "default", "ready"), DeviceState("speaker", "default", "lost", "unplugged")),
    can_speak=True,
    can_listen=False,
)


def speaking(utterance: str, source: str = "reply") -> Status:
    return IDLE._replace(state="speaking", saying=CurrentUtterance(utterance, "", 0, source))


def samples(metrics: Metrics) -> dict[str, float]:
    """The value of each sample by its name with labels, as prometheus-client reads the text."""
    found = {}
    for family in text_string_to_metric_families(metrics.render()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def counted(notifications: Iterable[tuple[float, Notification]]) -> dict[str, float]:
    """The samples after notifications, each with its time."""
    clock = Clock()
    metrics = Metrics(clock=clock)
    for at, notification in notifications:
        clock.now = at
        metrics.update(notification)
    return samples(metrics)


NOTIFICATIONS: list[tuple[Notification, str, float]] = [
    (Heard("what time is it"), "voice_agent_turns_total", 1),
    (NearMiss("alexa", 0.6), "voice_agent_wake_near_misses_total{word=alexa}", 1),
    (Woken("hey jarvis"), "voice_agent_wake_words_total{word=hey jarvis}", 1),
    (Heard(""), "voice_agent_turns_total", 0),
    (Record(Utterance("a", "x"), "played", seconds=1.5), "voice_agent_spoken_seconds_total", 1.5),
    (
        Record(Utterance("a", "x", urgency=Urgency.IMPORTANT), "failed", "no network"),
        "voice_agent_utterances_total{priority=important,state=failed}",
        1,
    ),
    (Announce(Utterance("a", "x")), "voice_agent_utterances_total{priority=message,state=played}", 0),
    (Underruns("a", 3, 0.4), "voice_agent_underruns_total", 3),
    (Underruns("a", 3, 0.4), "voice_agent_underrun_seconds_total", 0.4),
    (Gap(1.0, 0.5, MICROPHONE_OVERRUN), "voice_agent_overruns_total{buffer=microphone}", 1),
    (Gap(1.0, 0.5, FRAME_QUEUE_OVERRUN), "voice_agent_overruns_total{buffer=frame queue}", 1),
    (Gap(1.0, 0.5, "the microphone was disconnected"), "voice_agent_gap_seconds_total", 0.5),
    (ServiceDown("fish", "refused"), "voice_agent_service_failures_total{service=fish}", 1),
    (ServiceUp("fish", 4), "voice_agent_service_reconnects_total{service=fish}", 1),
    (DeviceLost("speaker", "unplugged"), "voice_agent_device_losses_total{device=speaker}", 1),
    (AudioArrived("a", "fish"), "voice_agent_phrase_lookups_total{result=miss}", 1),
    (AudioArrived("a", "fish", is_phrase=True), "voice_agent_phrase_lookups_total{result=hit}", 1),
    (IDLE, "voice_agent_queue_length", 2),
    (IDLE, "voice_agent_state{state=idle}", 1),
    (IDLE, "voice_agent_state{state=speaking}", 0),
    (IDLE, "voice_agent_can_speak", 1),
    (IDLE, "voice_agent_can_listen", 0),
    (IDLE, "voice_agent_volume_ratio", 0.8),
    (IDLE, "voice_agent_service_up{role=speech,service=fish}", 1),
    (IDLE, "voice_agent_service_up{role=reply,service=rules}", 0.5),
    (IDLE, "voice_agent_circuit_breaker{service=fish,state=open}", 1),
    (IDLE, "voice_agent_circuit_breaker{service=fish,state=closed}", 0),
    (IDLE, "voice_agent_device_up{device=speaker}", 0),
    (IDLE, "voice_agent_service_failures_total{service=fish}", 0),
]


@pytest.mark.parametrize(("notification", "sample", "value"), NOTIFICATIONS)
def test_a_notification_is_counted(notification: Notification, sample: str, value: float) -> None:
    assert counted([(100.0, notification)])[sample] == value


def test_the_answer_is_measured_from_the_end_of_speech_to_the_first_audio_of_the_reply() -> None:
    found = counted(
        [
            (100.5, SpeechEnded(0.5)),
            (100.7, Heard("what time is it")),
            (101.0, speaking("r1")),
            (101.1, AudioArrived("r1", "fish")),
            (101.2, PlaybackStarted("r1")),
            (110.0, speaking("a1", "control")),
            (110.1, PlaybackStarted("a1")),
        ]
    )
    assert found["voice_agent_answer_seconds_count"] == 1
    assert found["voice_agent_answer_seconds_sum"] == pytest.approx(1.2)
    assert found["voice_agent_answer_seconds_bucket{le=1.0}"] == 0
    assert found["voice_agent_answer_seconds_bucket{le=1.5}"] == 1
    labels = "{origin=service,service=fish}"
    assert found[f"voice_agent_first_audio_seconds_sum{labels}"] == pytest.approx(0.1)


def test_speech_without_words_starts_no_answer() -> None:
    steps: list[tuple[float, Notification]] = [
        (100.0, SpeechEnded(0.5)),
        (100.1, Heard("")),
        (110.0, speaking("r1")),
        (110.1, PlaybackStarted("r1")),
    ]
    assert counted(steps)["voice_agent_answer_seconds_count"] == 0


def test_first_audio_of_a_phrase_is_kept_apart() -> None:
    found = counted([(100.0, speaking("a1", "say")), (100.02, AudioArrived("a1", "fish", is_phrase=True))])
    assert found["voice_agent_first_audio_seconds_bucket{le=0.05,origin=phrase,service=fish}"] == 1
    assert not any("origin=service" in name for name in found)


def test_underruns_of_the_card_are_read() -> None:
    assert samples(Metrics(lambda: 4))["voice_agent_card_underruns_total"] == 4


def test_the_process_and_the_build_are_described() -> None:
    found = counted([])
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert any(name.startswith("voice_agent_build_info{") for name in found)


def test_promtool_accepts_all_metrics() -> None:
    metrics = Metrics()
    for notification, _, _ in NOTIFICATIONS:
        metrics.update(notification)
    metrics.update(speaking("a"))
    metrics.update(AudioArrived("a", "fish"))
    done = promtool("check", "metrics", text=metrics.render())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_accepts_the_metrics_of_a_daemon_without_events() -> None:
    done = promtool("check", "metrics", text=Metrics().render())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_labels_are_escaped() -> None:
    counter = Metric("c_total", "help", ("a",))
    counter.add(1, 'back\\slash "quote"\nline')
    (family,) = text_string_to_metric_families("\n".join([*counter.lines(), ""]))
    assert family.samples[0].labels == {"a": 'back\\slash "quote"\nline'}


def test_a_duration_equal_to_a_bound_is_in_its_bucket() -> None:
    histogram = Histogram("h_seconds", "help", (1.0, 2.0))
    for seconds in (1.0, 1.5, 9.0):
        histogram.observe(seconds)
    (family,) = text_string_to_metric_families("\n".join([*histogram.lines(), ""]))
    assert [sample.value for sample in family.samples] == [1, 2, 3, 11.5, 3]
