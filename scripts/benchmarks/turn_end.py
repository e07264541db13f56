"""Measures how well the text of a turn chooses the silence that ends it: turns that are cut, and the final silence.

    scripts/bench turn_end [--json]

The set has 100 sentences in eight languages, each with the place of a natural pause. Ten pauses are drawn for each
from a log-normal distribution (median 0.45 s, 5 % above 1.0 s). A turn is *cut* if the pause is at least as long as the
silence that its words so far choose, in frames of 0.1 s. The *final silence* is what a speaker waits at the end of the
sentence. A recognizer *with punctuation* ends each partial like a sentence (moonshine); one *without* writes words only
(vosk). The fixed silences are for comparison.

The words were chosen with this set. The *held-out* set has 100 other sentences: hesitations before a word that is still
searched, and borders of two thoughts, where the words so far are a whole sentence and no word shows that more follows.
The third set pauses in each of these 200 sentences at another place, which is drawn.

A turn that is cut is not lost if the rest begins within 1.5 s and before the reply: it joins the question. *lost* is
the share of turns whose rest comes later, with a reply 0.1 s after the end of the turn (rules) and 1 s after it (a
language model).
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.pipeline.capture.pauses import PauseChooser
from agent.pipeline.questions import CONTINUATION_SECONDS
from agent.pipeline.settings import PauseSettings
from scripts.benchmarks._held_out import BORDERS, HESITATIONS
from scripts.benchmarks._report import Column, Result, Table, at_most

PAUSES_PER_SENTENCE = 10
FRAME_SECONDS = 0.1
LIMIT_PERCENT = 5.0
REPLY_SECONDS = (0.1, 1.0)
"""Time from the end of a turn to its reply: of rules, and of a language model."""

SENTENCES = """
When does the next train to | Brighton leave?
I would like two tickets for the | castle tour.
Can you tell me the | opening hours of the museum?
Set a timer for | twenty minutes.
Play something by | the Beatles.
Turn off the lights in the | living room.
What is the weather like in | Edinburgh tomorrow?
Remind me to call my | sister at six.
How do I get from | here to the main station?
I am looking for a | quiet place to eat.
Add milk, eggs and | bread to the shopping list.
Is there a lift or | an escalator on this floor?
My number is zero one | seven six five.
I need, um, | a taxi to the airport.
Could you please repeat the | last announcement?
Where can I find the | lost property office?
Wake me up at seven | tomorrow morning.
Tell me a story about | a dragon and a knight.
Does the ticket include | the special exhibition?
I want to know if | the shop is still open.
What is the name of | this painting?
Show me the way to | platform nine.
Please call the | front desk.
Turn the volume down | a little bit.
What time does | the restaurant close?
We have a reservation for | four people at eight.
How much is a | return ticket to Oxford?
Send a message to | my brother.
I think, | the answer is no.
Which bus goes to the | university hospital?
The code is four | eight one two.
Are dogs allowed in | the botanical garden?
Put a meeting in my | calendar for Monday.
Start the washing machine when | I leave the house.
Do you know whether | the pool is heated?
What was the | score of the match last night?
Read me the news | from today.
Open the blinds and | switch on the coffee machine.
I would like to | speak to a guide.
How long does the | guided tour take?
Wann fährt der nächste Zug nach | Hamburg?
Ich hätte gern zwei Karten für | die Burg.
Stell einen Wecker für | sieben Uhr.
Mach das Licht im | Wohnzimmer aus.
Wie komme ich von | hier zum Bahnhof?
Kannst du mir sagen, | wo die Toiletten sind?
Meine Nummer ist null eins | sieben sechs.
Spiel etwas von | Mozart.
Ich suche einen | ruhigen Platz.
Wie wird das Wetter in | München morgen?
À quelle heure part le | prochain train?
Je voudrais deux billets pour | le château.
Mets un minuteur de | dix minutes.
Est-ce que le musée est ouvert le | dimanche?
Où se trouve la | sortie de secours?
Allume la lumière dans la | cuisine.
Quel temps fera-t-il à | Lyon demain?
Je cherche un | restaurant tranquille.
Appelle ma | sœur ce soir.
Combien coûte un | billet aller-retour?
¿A qué hora sale el | próximo tren?
Quiero dos entradas para el | castillo.
Pon un temporizador de | diez minutos.
¿Dónde está la | salida de emergencia?
Enciende la luz de la | cocina.
¿Qué tiempo hará en | Madrid mañana?
Busco un | restaurante tranquilo.
Llama a mi | hermana esta noche.
¿Cuánto cuesta un | billete de ida y vuelta?
Quiero saber si | el museo está abierto.
A che ora parte il | prossimo treno?
Vorrei due biglietti per il | castello.
Metti un timer di | dieci minuti.
Dove si trova la | biglietteria?
Accendi la luce in | cucina.
Che tempo farà a | Roma domani?
Cerco un | posto tranquillo.
Chiama mia | sorella stasera.
A que horas parte o | próximo comboio?
Queria dois bilhetes para o | castelo.
Põe um alarme para as | sete horas.
Onde fica a | saída de emergência?
Acende a luz da | cozinha.
Como vai estar o tempo em | Lisboa amanhã?
Procuro um | lugar tranquilo.
Liga para a minha | irmã.
Hoe laat vertrekt de | volgende trein?
Ik wil graag twee kaartjes voor | het kasteel.
Zet een wekker voor | zeven uur.
Waar is de | nooduitgang?
Doe het licht in de | keuken aan.
Wat voor weer wordt het in | Utrecht morgen?
Ik zoek een | rustige plek.
Bel mijn | zus vanavond.
अगली ट्रेन दिल्ली के लिए | कब जाती है?
मुझे दो टिकट और | एक नक्शा चाहिए।
रसोई की | बत्ती जला दो।
कल मौसम कैसा रहेगा और | बारिश होगी क्या?
मेरी बहन को | फोन करो।
यहाँ से स्टेशन तक | कैसे जाएँ?
""".strip().splitlines()


class Row(NamedTuple):
    """The result of one way to choose the silence. Immutable."""

    name: str
    cut_percent: float
    lost_percent: float  # with the first of ``REPLY_SECONDS``
    lost_slow_percent: float  # with the second
    median_seconds: float
    mean_seconds: float


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; return 1 if more turns are cut than the limit."""
    parser = argparse.ArgumentParser(prog="scripts/bench turn_end", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args(arguments).json
    chooser = make_chooser()
    rows = [
        *measure_text(),
        *(measure(f"{seconds:g} s fixed", lambda text, fixed=seconds: fixed) for seconds in (0.3, 0.5, 0.7, 1.2)),
    ]
    sets = (("hesitations", HESITATIONS), ("borders", BORDERS), ("other places", other_places()))
    held_out = [
        measure(f"held-out, {kind}, {name} punctuation", chooser.choose, sentences, has_marks=has_marks)
        for kind, sentences in sets
        for name, has_marks in (("with", True), ("without", False))
    ]
    columns = (
        Column("turns cut, %", 1),
        *(Column(f"lost, reply in {seconds:g} s, %", 1) for seconds in REPLY_SECONDS),
        Column("median final silence, s"),
        Column("mean, s"),
    )
    return Result(
        [
            Table((f"silence ({len(SENTENCES)} sentences, {PAUSES_PER_SENTENCE} pauses each)",), columns, rows),
            Table((f"silence ({', '.join(f'{len(each)} {kind}' for kind, each in sets)})",), columns, held_out),
        ],
        [
            at_most(
                f"at most {LIMIT_PERCENT:g} % of the turns are cut by the text",
                LIMIT_PERCENT,
                {row.name: row.cut_percent for row in rows[:2]},
            )
        ],
    ).show(as_json=as_json)


def make_chooser() -> PauseChooser:
    """Return the choice of the default configuration, for a responder that accepts every text."""
    settings = PauseSettings()
    return PauseChooser(settings.complete_seconds, settings.unsure, settings.incomplete_seconds, lambda text: False)


def measure_text() -> list[Row]:
    """Measure the choice by the text, with and without punctuation."""
    choose = make_chooser().choose
    return [
        measure("by the text, with punctuation", choose, has_marks=True),
        measure("by the text, without punctuation", choose, has_marks=False),
    ]


def measure(
    name: str, choose: Callable[[str], float], sentences: Sequence[str] = tuple(SENTENCES), *, has_marks: bool = True
) -> Row:
    """Measure one way to choose the silence."""
    random_pause = random.Random(1)
    cut, lost, finals = 0, [0, 0], []
    for sentence in sentences:
        beginning, _, rest = sentence.partition("|")
        beginning, whole = beginning.strip(), f"{beginning.strip()} {rest.strip()}"
        partial = words_of(beginning)
        if has_marks:
            partial = beginning if beginning.endswith(",") else f"{beginning}."
        silence = choose(partial)
        for _ in range(PAUSES_PER_SENTENCE):
            pause = random_pause.lognormvariate(math.log(0.45), 0.486)
            if math.floor(pause / FRAME_SECONDS) * FRAME_SECONDS + 1e-9 < silence:
                continue
            cut += 1
            for at, seconds in enumerate(REPLY_SECONDS):
                lost[at] += pause > min(CONTINUATION_SECONDS, silence + seconds)
        finals.append(choose(whole if has_marks else words_of(whole)))
    count = len(sentences) * PAUSES_PER_SENTENCE
    return Row(
        name,
        100 * cut / count,
        *(100 * each / count for each in lost),
        statistics.median(finals),
        statistics.fmean(finals),
    )


def other_places() -> list[str]:
    """Return all sentences, each with its pause at another place that is drawn."""
    draw, found = random.Random(5), []
    for sentence in [*HESITATIONS, *BORDERS, *SENTENCES]:
        beginning, _, rest = sentence.partition("|")
        words, taken = [*beginning.split(), *rest.split()], len(beginning.split())
        if places := [at for at in range(1, len(words)) if at != taken]:
            at = draw.choice(places)
            found.append(f"{' '.join(words[:at])} | {' '.join(words[at:])}")
    return found


def words_of(text: str) -> str:
    """Return the words as a recognizer without punctuation writes them."""
    return "".join(character for character in text.lower() if character not in ".,?!¿¡।")
