"""Spoken requests and replies in French."""

from agent.pipeline.responders.intents.language import Language

WEEKDAYS = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")
MONTHS = (
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
)

LANGUAGE = Language(
    sentences={
        "Stop": (
            "(stop|stoppe|arrête|arrête-toi|arrête toi|silence|tais-toi|tais toi|ça suffit|assez|chut)",
            "(arrête|coupe|éteins) (l'alarme|le réveil|la sonnerie)",
        ),
        "SetVolume": ("[(mets|règle|monte|baisse)] [le] (volume|son) [à] {volume} [pour cent|pourcent|percent]",),
        "VolumeUp": (
            "[parle] [un peu] plus fort [s'il te plaît]",
            "(monte|augmente) [un peu] le (volume|son)",
        ),
        "VolumeDown": (
            "[parle] [un peu] moins fort [s'il te plaît]",
            "[parle] plus (bas|doucement)",
            "(baisse|diminue) [un peu] le (volume|son)",
        ),
        "GetVolume": ("quel est le volume", "à combien est le volume"),
        "Mute": ("(muet|coupe le son|mets [toi|le son] en (sourdine|muet)|désactive le son)",),
        "Unmute": ("(remets le son|rétablis le son|active le son|réactive le son)",),
        "Pause": ("(pause|mets en pause|attends [un (moment|instant)])",),
        "GetTime": ("(quelle heure (est-il|est il|il est)|il est quelle heure|donne-moi l'heure|donne moi l'heure)",),
        "GetDate": ("(quel jour (sommes-nous|sommes nous|on est)|quelle est la date [d'aujourd'hui]) [aujourd'hui]",),
        "Repeat": (
            "(répète|répéter) [ça|cela] [s'il te plaît]",
            "(redis|redis-le|redis le|encore une fois|comment|pardon)",
            "qu'est-ce que tu as dit",
        ),
        "Help": (
            "(que puis-je|qu'est-ce que je peux) [te] (dire|demander)",
            "(que sais-tu|qu'est-ce que tu sais|que peux-tu) faire",
            "(aide|aide-moi|aide moi)",
        ),
        "StartTimer": (
            "<set> [un|le] <timer> [(appelé|nommé|pour [le|la|les])] {name} de <duration>",
            "<set> [un|le] <timer> (de|pour|dans|à) <duration>",
            "<set> [un|le] <timer> de <duration> (pour (le|la|les)|pour|appelé|nommé) {name}",
            "<timer> [de|pour] <duration>",
            "[<set>] [un|le] <timer> d'<duration>",
            "<timer> {name} [de] <duration>",
            "(rappelle-moi|rappelle moi|préviens-moi|préviens moi) dans <duration>",
            "(rappelle-moi|rappelle moi) {name} dans <duration>",
        ),
        "ListTimers": (
            "(quels|combien de) minuteurs [(sont en cours|y a-t-il|ai-je|j'ai|tournent)]",
            "<how_long> [<is_left>] [(sur|au|dans|pour)] [le|mon] <timer> [{name}]",
            "<how_long> <is_left>",
        ),
        "CancelTimer": (
            "(annule|arrête|supprime) (le|mon) <timer>",
            "(annule|arrête|supprime) (le|mon) <timer> [(appelé|nommé|pour (le|la|les)|pour|des|de)] {name}",
        ),
        "CancelAllTimers": ("(annule|arrête|supprime) tous les <timer>[s]",),
        "IncreaseTimer": (
            "(ajoute|rajoute) <duration> (au|à mon|sur le) <timer> [{name}]",
            "prolonge (le|mon) <timer> de <duration>",
        ),
        "DecreaseTimer": ("(enlève|retire) <duration> (au|à mon|du) <timer> [{name}]",),
        "PauseTimer": ("mets (le|mon) <timer> en pause", "suspends (le|mon) <timer>"),
        "ResumeTimer": ("(reprends|relance|redémarre) (le|mon) <timer>",),
        "SetAlarm": (
            "<set> [un|le|mon|une] (réveil|alarme) (à|pour) <time> [{day}]",
            "<set> [un|le|mon|une] (réveil|alarme) [pour] {day} à <time>",
            "(réveil|alarme) à <time> [{day}]",
            "(réveille-moi|réveille moi) [{day}] à <time>",
            "(réveille-moi|réveille moi) à <time> {day}",
        ),
        "ListAlarms": (
            "(quelles alarmes|quels réveils) [(sont réglés|sont réglées|y a-t-il|ai-je)]",
            "à quelle heure (sonne|est) (le|mon) [prochain] réveil",
            "quand sonne (le|mon) [prochain] réveil",
        ),
        "CancelAlarm": ("(annule|supprime|désactive) (le|mon) réveil [de <time>]", "(annule|supprime) l'alarme"),
        "CancelAllAlarms": ("(annule|supprime) (tous les réveils|toutes les alarmes)",),
        "Snooze": (
            "(répétition|plus tard|encore (quelques|cinq|5) minutes)",
            "encore {minutes} minute[s]",
            "[sonne|rappelle-moi] [à nouveau] dans {minutes} minute[s]",
        ),
    },
    rules={
        "set": "(mets|lance|démarre|crée|règle|programme|active)",
        "how_long": "(combien de temps|combien)",
        "is_left": "(reste-t-il|reste t il|il reste)",
        "timer": "(minuteur|minuterie|timer|compte à rebours)",
        "duration": (
            "(<h> [et] <m> [et] <s>|<h> [et] <m>|<m> [et] <s>|<h>|<m>|<s>|{half_hour:minutes}"
            "|{one:hours} heure et {half:minutes}|{hours} heure[s] et {half:minutes}|{one:minutes} minute"
            "|{one:hours} heure)"
        ),
        "o_clock": "(heure[s]|h)",
        "h": "{hours} heure[s]",
        "m": "{minutes} minute[s]",
        "s": "{seconds} seconde[s]",
        "time": (
            "({hour} <o_clock> [{half_day}]|{hour} <o_clock> {minute} [{half_day}]|{hour} {minute} [{half_day}]"
            "|{hour} [{half_day}]|{hour} <o_clock> {past} [{half_day}]|{hour} <o_clock> {before} [{half_day}]|{fixed})"
        ),
    },
    words={
        "half_hour": {"une demi[-| ]heure": 30, "un quart d'heure": 15, "trois quarts d'heure": 45},
        "half": {"(demie|demi)": 30, "quart": 15},
        "one": {"une": 1},
        "past": {"et (demie|demi)": 30, "et quart": 15},
        "before": {
            "moins le quart": 15,
            "moins (cinq|5)": 5,
            "moins (dix|10)": 10,
            "moins (vingt|20)": 20,
            "moins (vingt-cinq|vingt cinq|25)": 25,
        },
        "fixed": {"midi": 720, "minuit": 0, "midi et (demi|demie)": 750, "minuit et (demi|demie)": 30},
        "half_day": {"du matin": "am", "(du soir|de l'après-midi|de l'après midi)": "pm"},
        "day": {"aujourd'hui": 0, "(demain|demain matin)": 1, "après-demain": 2},
    },
    replies={
        "timer_started": "{duration}, à partir de maintenant.",
        "timer_started_named": "{name} : {duration}, à partir de maintenant.",
        "timer_left": "Il reste {duration}.",
        "timer_left_named": "{name} : il reste {duration}.",
        "timer_paused": "En pause, il reste {duration}.",
        "timer_cancelled": "Le minuteur est annulé.",
        "timer_cancelled_named": "Le minuteur {name} est annulé.",
        "timers_cancelled": "Tous les minuteurs sont annulés.",
        "timer_item": "{duration}",
        "timer_item_named": "{name} : {duration}",
        "timer_list": "Il y a {count} minuteurs : {list}.",
        "timer_which": "Quel minuteur ? Il y en a {count} : {list}.",
        "no_timer": "Il n'y a pas de minuteur.",
        "no_timer_named": "Il n'y a pas de minuteur {name}.",
        "timer_rings": "Votre minuteur est terminé.",
        "timer_rings_named": "Votre minuteur {name} est terminé.",
        "timer_missed": "Un minuteur s'est terminé à {time}, pendant que j'étais éteint.",
        "timer_missed_named": "Le minuteur {name} s'est terminé à {time}, pendant que j'étais éteint.",
        "many": "Il y a trop de minuteurs.",
        "long": "Un minuteur dure au plus {hours} heures.",
        "short": "Ce minuteur est trop court.",
        "alarm_set": "Le réveil sonnera {day} à {time}.",
        "alarm_set_unsure": "Le réveil sonnera {day} à {time}. Mon horloge n'est pas encore à l'heure.",
        "alarm_item": "{day} à {time}",
        "alarm_item_named": "{name} : {day} à {time}",
        "alarm_one": "Le réveil sonne {list}.",
        "alarm_list": "Il y a {count} réveils : {list}.",
        "alarm_which": "Quel réveil ? Il y en a {count} : {list}.",
        "alarm_cancelled": "Le réveil est annulé.",
        "alarms_cancelled": "Tous les réveils sont annulés.",
        "no_alarm": "Il n'y a pas de réveil.",
        "alarm_rings": "Il est {time}.",
        "alarm_rings_named": "Il est {time} : {name}.",
        "alarm_missed": "J'ai manqué le réveil de {time}, car j'étais éteint.",
        "alarm_missed_named": "J'ai manqué le réveil {name} de {time}, car j'étais éteint.",
        "snoozed": "Je sonnerai de nouveau dans {duration}.",
        "today": "aujourd'hui",
        "tomorrow": "demain",
        "volume": "Le volume est à {percent} pour cent.",
        "time": "Il est {time}.",
        "date": "Nous sommes {date}.",
        "nothing_to_repeat": "Je n'ai encore rien dit.",
        "help": "Vous pouvez dire : {examples}.",
        "not_a_time": "Je n'ai pas compris l'heure.",
        "home_unreachable": "Je n'arrive pas à joindre Home Assistant.",
        "home_refused": "Home Assistant refuse mon jeton.",
    },
    spellings={"min": "minutes"},
    units=(("heure", "heures"), ("minute", "minutes"), ("seconde", "secondes")),
    last_separator=" et ",
    spoken_time=lambda moment: (
        f"{moment.hour} heure{'s' if moment.hour > 1 else ''}{f' {moment:%M}' if moment.minute else ''}"
    ),
    spoken_date=lambda moment: f"{WEEKDAYS[moment.weekday()]} {moment.day} {MONTHS[moment.month - 1]}",
    examples=(
        "quelle heure est-il ; mets un minuteur de dix minutes ; réveille-moi à sept heures ; plus fort ; stop ; répète"
    ),
)
