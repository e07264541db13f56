"""Sentences with the place of a natural pause; the words for the end of a turn were chosen without them."""

HESITATIONS = """
Dim the lamp next to | the sofa to ten percent.
Play the album that | we heard yesterday.
Remind me in half an hour to | take the cake out of the oven.
What did the president of | France say today?
I need a recipe for | pancakes without eggs.
Could you book a table at | the Italian place?
Is my | flight on time?
Set the heating in the bathroom to | twenty two degrees.
Who wrote the | Jungle Book?
When is the best time to | plant tomatoes?
Tell Anna that I will be | ten minutes late.
How far is it from | Leeds to York?
Put on some | jazz please.
Does the pharmacy on | King Street open on Sundays?
I want to hear the | podcast from last week.
Read my | new messages.
What was that | song called?
Give me directions to the | nearest petrol station.
My order number is nine two | four seven.
Could we, er, | go back to the first question?
Spiel bitte das Lied von | gestern Abend.
Erinnere mich um acht an | die Tabletten.
Wie lange dauert die | Führung?
Ich möchte wissen, ob | das Museum morgen offen ist.
Wo ist hier der | nächste Bahnhof?
Rappelle-moi d'acheter du | pain ce soir.
Je cherche la | station de métro.
Quelle est la | capitale du Pérou?
Est-ce que tu peux baisser le | volume?
J'ai réservé une chambre pour | deux nuits.
Recuérdame comprar | leche mañana.
¿Cuál es la | capital de Perú?
Pon la canción de | ayer por la noche.
Quería preguntar si | hay descuento.
Baja el volumen de la | radio.
Ricordami di comprare il | pane.
Qual è la | capitale del Perù?
Vorrei sapere se | il museo è aperto.
Abbassa il volume della | radio.
Lembra-me de comprar | pão.
Qual é a | capital do Peru?
Queria saber se | o museu está aberto.
Baixa o volume do | rádio.
Herinner me aan de | afspraak van morgen.
Wat is de | hoofdstad van Peru?
Ik wil graag weten of | het museum open is.
Zet het geluid van de | radio zachter.
मुझे याद दिलाना कि | दवा लेनी है।
पेरू की | राजधानी क्या है?
क्या आप | आवाज़ कम कर सकते हैं?
""".strip().splitlines()
"""The pause is before a word that the speaker still searches."""

BORDERS = """
Turn off the television | and close the blinds.
Wake me at six | if it does not rain.
What time is it | in Tokyo?
Add butter | and flour to the list.
Call the office | and ask for Martin.
The radio is too loud | so turn it down.
Start the dishwasher | when the electricity is cheap.
Will it rain tomorrow | or on Sunday?
Show the pictures | of the garden.
Set an alarm | for half past five.
I lost my ticket | near the entrance.
Cancel the timer | for the eggs.
We are four people | and one of us uses a wheelchair.
Lock the back | and the garage.
Stop the music | in ten minutes.
Are there toilets | on the ground floor?
Pause the film | while I answer the phone.
Play the news | then the weather.
Find a hotel | close to the station.
I have two questions | about the exhibition.
Mach die Heizung aus | und die Lampe an.
Wie viel kostet der Eintritt | für Kinder?
Schreib Butter auf die Liste | und Eier.
Weck mich um sechs | wenn es nicht regnet.
Ruf Martin an | und frag nach dem Schlüssel.
Éteins la télé | et ferme les volets.
Il fait quel temps demain | à Nantes?
Réveille-moi à sept heures | sauf samedi.
Ajoute du lait | et du beurre.
Où sont les toilettes | au premier étage?
Apaga la tele | y cierra la persiana.
Despiértame a las siete | si no llueve.
Añade leche | y mantequilla.
¿Cuánto cuesta la entrada | para niños?
¿Hay baños | en esta planta?
Spegni la televisione | e chiudi le tapparelle.
Svegliami alle sette | se non piove.
Aggiungi latte | e burro.
Quanto costa il biglietto | per i bambini?
Desliga a televisão | e fecha as persianas.
Acorda-me às sete | se não chover.
Quanto custa o bilhete | para crianças?
Há casas de banho | neste andar?
Doe de televisie uit | en de lamp aan.
Maak me om zeven uur wakker | als het droog is.
Hoeveel kost een kaartje | voor kinderen?
Zijn er toiletten | op deze verdieping?
टीवी बंद करो | और पंखा चला दो।
मुझे सात बजे जगाना | अगर बारिश न हो।
बच्चों के लिए टिकट | कितने का है?
""".strip().splitlines()
"""The pause is at the border of two thoughts, where the words so far are a whole sentence."""
