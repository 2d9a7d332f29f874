"""Plain questions that have nothing to do with a picture, made from tables: several thousand in many wordings.

None of them is a question of `benchmarks.unrelated` or a close rewording of one; `tests/unit/training` checks it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_COUNTRIES = (
    "France", "Italy", "Spain", "Japan", "China", "India", "Kenya", "Brazil", "Peru", "Chile", "Canada", "Russia",
    "Greece", "Turkey", "Norway", "Sweden", "Finland", "Denmark", "Poland", "Austria", "Hungary", "Portugal",
    "Ireland",
    "Iran", "Iraq", "Thailand", "Vietnam", "Argentina", "Belgium", "Ukraine", "Switzerland", "Morocco", "Nigeria",
    "Ethiopia", "Ghana", "Colombia", "Venezuela", "Bolivia", "Ecuador", "Jamaica", "Nepal", "Pakistan", "Bangladesh",
    "Indonesia", "Malaysia", "the Philippines", "Mongolia", "Saudi Arabia", "Israel", "Lebanon", "Romania",
    "Bulgaria",
    "Serbia", "Croatia", "Iceland", "Estonia", "Latvia", "Lithuania", "New Zealand", "Tanzania", "Uganda", "Algeria",
)  # fmt: skip
_ABOUT_COUNTRY = (
    "What is the capital of {}?", "What's the capital of {}?", "Which city is the capital of {}?",
    "Name the capital of {}.", "On which continent is {}?", "Which continent is {} in?",
    "What language do people speak in {}?", "What language is spoken in {}?", "What is the currency of {}?",
    "What money do they use in {}?", "Name a famous food from {}.", "Name a big city in {}.", "Where is {}?",
    "Tell me one fact about {}.", "Is {} in Europe? Answer yes or no.", "What is {} famous for?",
)  # fmt: skip
_CITIES = (
    "Rome", "Madrid", "Berlin", "Tokyo", "Beijing", "Cairo", "Nairobi", "Lima", "Ottawa", "Moscow", "Athens", "Oslo",
    "Vienna", "Lisbon", "Dublin", "Bangkok", "Hanoi", "Warsaw", "Budapest", "Brussels", "New York", "Chicago",
    "Sydney",
)  # fmt: skip
_ABOUT_CITY = ("{} is the capital of which country?", "In which country is {}?", "Is {} a city or a country?")
_OPPOSITES = (
    "hot", "big", "fast", "happy", "dark", "rich", "strong", "early", "up", "full", "open", "heavy", "hard", "loud",
    "wet", "high", "near", "clean", "easy", "north", "east", "summer", "war", "begin", "buy", "push", "win", "alive",
    "brave", "cheap", "deep", "empty", "first", "front", "inside", "laugh", "left", "long", "lost", "male", "many",
    "old", "polite", "right", "rough", "safe", "sharp", "sick", "simple", "smooth", "sour", "sweet", "tall", "thick",
    "tight", "true", "ugly", "wide", "wild", "above", "before", "always", "arrive", "ask", "borrow", "hero", "top",
)  # fmt: skip
_ABOUT_WORD = (
    "What is the opposite of {}?", "What's the opposite of {}?", "Give me an antonym of {}.",
    "What is a synonym for {}?", "Use the word {} in a sentence.", "How do you spell {}?", "What does {} mean?",
    "What rhymes with {}?", "Is {} a noun or an adjective?",
)  # fmt: skip
_SINGULARS = (
    "mouse", "foot", "tooth", "man", "woman", "goose", "leaf", "knife", "wife", "city", "baby", "box", "bus",
    "church",
    "potato", "tomato", "person", "sheep", "fish", "deer", "wolf", "half", "story", "country", "dish", "fox", "hero",
)  # fmt: skip
_VERBS = (
    "eat", "see", "come", "run", "write", "take", "give", "buy", "think", "bring", "sing", "swim", "drink", "drive",
    "speak", "break", "fly", "know", "make", "say", "sleep", "teach", "win", "begin", "choose", "fall", "find",
    "grow",
)  # fmt: skip
_UNITS = (
    ("days", "week"), ("months", "year"), ("weeks", "year"), ("days", "year"), ("minutes", "hour"),
    ("seconds", "hour"), ("centimeters", "meter"), ("meters", "kilometer"), ("grams", "kilogram"),
    ("inches", "foot"), ("feet", "yard"), ("ounces", "pound"), ("cents", "dollar"), ("years", "century"),
    ("years", "decade"), ("eggs", "dozen"), ("millimeters", "centimeter"), ("pints", "gallon"), ("bits", "byte"),
    ("letters", "English alphabet"), ("players", "soccer team"), ("strings", "violin"), ("keys", "piano"),
    ("sides", "square"), ("sides", "hexagon"), ("sides", "pentagon"), ("legs", "spider"), ("legs", "insect"),
    ("wheels", "bicycle"), ("wheels", "car"), ("zeros", "million"), ("colors", "rainbow"), ("cards", "deck"),
    ("states", "United States"), ("days", "month of June"), ("degrees", "circle"), ("degrees", "right angle"),
)  # fmt: skip
_ELEMENTS = (
    "gold", "silver", "iron", "copper", "helium", "hydrogen", "carbon", "nitrogen", "sodium", "lead", "zinc", "neon",
)  # fmt: skip
_WORKS = (
    "Hamlet", "Macbeth", "Pride and Prejudice", "Moby Dick", "War and Peace", "Don Quixote", "1984", "Frankenstein",
    "The Iliad", "Oliver Twist", "Dracula", "Faust", "Les Miserables", "Harry Potter", "The Hobbit", "Animal Farm",
    "The Great Gatsby", "Alice in Wonderland", "Crime and Punishment", "The Divine Comedy", "Treasure Island",
)  # fmt: skip
_WHO = (
    "invented the telephone", "invented the light bulb", "painted the Mona Lisa", "painted The Starry Night",
    "discovered penicillin", "discovered America", "discovered radium", "composed the Ninth Symphony",
    "was the first president of the United States", "was Cleopatra", "was Napoleon", "was Mozart", "was Aristotle",
    "was Marie Curie", "was Isaac Asimov", "was Charles Darwin", "was Galileo", "founded Microsoft", "is Batman",
    "proposed the theory of evolution", "built the pyramids", "invented the airplane", "invented the printing press",
    "was Martin Luther King", "was Mahatma Gandhi", "was Nelson Mandela", "was the first woman in space",
    "sculpted David", "composed The Four Seasons", "was Julius Caesar", "was Socrates", "was Nikola Tesla",
)  # fmt: skip
_TOPICS = (
    "gravity", "democracy", "photosynthesis", "inflation", "evolution", "friendship", "electricity", "music",
    "poetry",
    "justice", "algebra", "computers", "atoms", "viruses", "volcanoes", "money", "the internet", "the moon", "rain",
    "the sea", "winter", "spring", "autumn", "the stars", "mountains", "rivers", "the wind", "freedom", "hope",
    "time",
    "history", "football", "chess", "cooking", "sleep", "dreams", "teachers", "school", "books", "movies", "climate",
    "energy", "oxygen", "blood", "the brain", "memory", "language", "mathematics", "geometry", "philosophy", "art",
    "coffee", "chocolate", "bread", "cheese", "honey", "bees", "dinosaurs", "whales", "robots", "space travel",
    "love",
)  # fmt: skip
_ABOUT_TOPIC = (
    "What is {}?", "Write one sentence about {}.", "Write a short poem about {}.", "Tell me about {}.",
    "Give me a fact about {}.", "Explain {} in one sentence.", "Why does {} matter?", "Explain {} to a child.",
    "Give me three words about {}.", "Write a haiku about {}.", "Write a joke about {}.", "Define {}.",
)  # fmt: skip
_TASKS = (
    "make tea", "boil an egg", "sleep better", "learn Spanish", "lose weight", "save money", "write a letter",
    "tie a tie", "bake bread", "plant a tree", "clean a window", "study for an exam", "make new friends",
    "find a job", "cook rice", "learn to swim", "fix a flat tire", "stay healthy", "wake up early", "stop smoking",
    "prepare for an interview", "train for a marathon", "remember names", "write a resume", "reduce stress",
    "learn to code", "grow tomatoes", "make pancakes", "remove a coffee stain", "plan a trip", "paint a wall",
)  # fmt: skip
_ABOUT_TASK = ("How do I {}?", "How can I {}?", "Give me a tip to {}.", "What do I need to {}?", "Is it hard to {}?")
_PHRASES = (
    "good morning", "thank you", "good night", "hello", "goodbye", "please", "I love you", "water", "bread", "friend",
    "yes", "where is the station", "how are you", "happy birthday", "cat", "dog", "house", "the book is red", "sorry",
)  # fmt: skip
_LANGUAGES = ("French", "Spanish", "German", "Italian", "Portuguese")
_CODE = (
    "adds two numbers", "reverses a string", "checks if a number is even", "finds the largest number in a list",
    "counts the words in a text", "prints the numbers from 1 to 10", "computes a factorial", "sorts a list",
    "checks if a word is a palindrome", "sums a list", "converts Celsius to Fahrenheit", "reads a file",
    "returns the first character of a string", "multiplies two numbers", "removes duplicates from a list",
)  # fmt: skip
_ACRONYMS = ("HTML", "URL", "USB", "NASA", "DNA", "RAM", "PDF", "UFO", "ATM", "GPS", "FAQ", "CEO", "UN", "EU", "AI",
             "HTTP", "SQL", "ASAP", "DIY", "LED")  # fmt: skip
_CHAIN = (
    ("Monday", "day"), ("Tuesday", "day"), ("Wednesday", "day"), ("Sunday", "day"), ("January", "month"),
    ("May", "month"), ("June", "month"), ("July", "month"), ("September", "month"), ("November", "month"),
    ("winter", "season"), ("spring", "season"), ("seven", "number"), ("nineteen", "number"), ("B", "letter"),
)  # fmt: skip
_COLOURED = ("the sky", "grass", "snow", "a banana", "blood", "a ripe tomato", "coal", "an elephant", "a lemon",
             "the sun", "milk", "chocolate", "a flamingo", "a carrot", "an emerald", "a polar bear")  # fmt: skip
_YES_OR_NO = (
    "Is the earth round?", "Is fire cold?", "Is water wet?", "Can birds fly?", "Can fish walk?",
    "Is the sun a planet?",
    "Is Paris in Germany?", "Is ice colder than steam?", "Is ten greater than five?", "Do cats bark?",
    "Is a whale a fish?",
    "Is a tomato a fruit?", "Is the moon made of cheese?", "Do plants need light?", "Is gold a metal?",
    "Is zero even?",
    "Is a spider an insect?", "Are dolphins mammals?", "Is a dog an animal?", "Is a car a vehicle?", "Can a car fly?",
    "Is a guitar a musical instrument?", "Is sugar sweet?", "Is Monday before Tuesday?", "Is English a language?",
    "Is a chair alive?", "Are trees alive?", "Do humans have wings?", "Is the Pacific an ocean?",
    "Is seven a prime number?",
)  # fmt: skip
_BIGGEST = (
    "the tallest mountain in the world", "the longest river in the world", "the fastest land animal",
    "the largest animal", "the largest country", "the smallest country", "the hottest planet", "the biggest desert",
    "the largest continent", "the tallest building in the world", "the deepest lake", "the largest mammal",
    "the hardest material", "the lightest element", "the longest bone in the human body", "the largest island",
)  # fmt: skip
_OTHER = (
    "Hello!", "Hi!", "Hi, how are you?", "Good morning.", "Good evening!", "Thank you!", "Thanks a lot.", "Bye!",
    "What is your name?", "Who are you?", "What can you do?", "Are you a robot?", "How old are you?", "Who made you?",
    "Tell me a joke.", "Tell me a short story.", "Tell me a riddle.", "Say something nice.", "Give me three fruits.",
    "Name three colors.", "Name five animals.", "Name two vegetables.", "Name four musical instruments.",
    "Count from one to five.", "Count backwards from ten.", "List the days of the week.", "List the seasons.",
    "List the primary colors.", "What is the speed of light?", "What do bees make?",
    "What is the first month of the year?",
    "Which planet is closest to the sun?", "What do plants need to grow?", "What is a prime number?", "What is DNA?",
    "What should I eat for breakfast?", "What should I wear today?", "I feel sad today.", "I am bored.",
    "I am hungry.",
    "Explain why the sky is blue in one sentence.", "Finish the sentence: The early bird",
    "Finish the sentence: Once upon a",
    "Suggest a name for a boat.", "Suggest a name for my dog.", "Suggest a gift for my mother.", "What day is it?",
    "Write a short greeting for a birthday card.", "Write a slogan for a bakery.", "What is the meaning of life?",
    "How do airplanes fly?", "How does a car engine work?", "Why do cats purr?", "Why do leaves fall?",
    "What is rain?",
    "Why is the ocean salty?", "What causes earthquakes?", "How do magnets work?", "What is a black hole?",
    "What is the square root of 81?", "What is the square root of 64?", "What is 2 to the power of 5?", "What is pi?",
    "Is 17 a prime number?", "Which is bigger, an ant or an elephant?", "Which is heavier, iron or wood?",
    "Which is faster, a car or a bicycle?", "What comes next: 2, 4, 6, 8?", "What comes next: 1, 1, 2, 3, 5?",
    "What is the past tense of write?", "Where do penguins live?", "What do pandas eat?", "What do lions eat?",
    "How long do dogs live?", "What sound does a cow make?", "What is a baby cat called?",
    "What is a group of wolves called?",
)  # fmt: skip


def _filled(templates: Sequence[str], words: Sequence[str]) -> Iterator[str]:
    return (template.format(word) for template in templates for word in words)


def _sums(rng: random.Random, count: int) -> Iterator[str]:
    """Yield arithmetic in many forms; small numbers are as frequent as larger ones."""
    forms = (
        "What is {a} plus {b}?", "What is {a} + {b}?", "{a} + {b} =", "Add {a} and {b}.",
        "What's {a} plus {b}?", "How much is {a} plus {b}?", "What is the sum of {a} and {b}?",
        "What is {a} minus {b}?", "{a} - {b} = ?", "Subtract {b} from {a}.",
        "How much is {a} minus {b}?", "What is {a} times {b}?", "What is {a} x {b}?",
        "Calculate {a} times {b}.", "What is {a} multiplied by {b}?", "What is {p} divided by {b}?",
        "Divide {p} by {b}.", "How much is {p} / {b}?", "What is half of {e}?",
        "What is double {a}?", "What is {a} squared?", "What is 10% of {t}?",
        "What is {h}% of {t}?", "Which is larger, {a} or {c}?", "Is {a} greater than {c}?",
        "What number comes after {a}?", "What number comes before {a}?", "Is {a} even or odd?",
        "I have {a} apples and buy {b} more. How many do I have?", "Round {a}.{b} to a whole number.",
        "Tom has {p} coins and shares them among {b} friends. How many does each get?",
    )  # fmt: skip
    for _ in range(count):
        a, b, c = rng.choice((rng.randint(2, 12), rng.randint(10, 99))), rng.randint(2, 12), rng.randint(2, 120)
        form = rng.choice(forms)
        yield form.format(
            a=max(a, b), b=min(a, b), c=c, p=a * b, e=2 * a, t=10 * rng.randint(2, 50), h=rng.choice((5, 20, 25, 50))
        )


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _about_nouns(nouns: Sequence[str], rng: random.Random, count: int) -> Iterator[str]:
    """Yield questions that name a thing in words, whatever the picture shows."""
    forms = (
        "What is {a}?", "What's {a}?", "Define {n}.", "Tell me a fact about {a}.", "Write one sentence about {a}.",
        "What is {a} used for?", "Where would I find {a}?", "How big is {a}?", "How would you describe {a}?",
        "Write a short poem about {a}.", "What do you know about the {n}?", "What colour is {a} usually?",
        "Is {a} alive? Answer yes or no.", "How much does {a} cost?", "What is the difference between {a} and {b}?",
    )  # fmt: skip
    for _ in range(count):
        noun, other = rng.choice(nouns), rng.choice(nouns)
        yield rng.choice(forms).format(n=noun, a=_article(noun), b=_article(other))


def plain_questions(nouns: Sequence[str], seed: int, *, num_sums: int = 700, num_nouns: int = 700) -> list[str]:
    """Return a few thousand questions on common knowledge, arithmetic, words, advice and small talk, each once."""
    rng = random.Random(f"{seed}-plain")
    translations = [f"Translate '{phrase}' to {language}." for phrase in _PHRASES for language in _LANGUAGES]
    translations += [f"How do you say '{phrase}' in {language}?" for phrase in _PHRASES for language in _LANGUAGES]
    questions = [
        *rng.sample(list(_filled(_ABOUT_COUNTRY, _COUNTRIES)), 600),
        *_filled(_ABOUT_CITY, _CITIES),
        *_filled(_ABOUT_WORD[:2], _OPPOSITES),
        *rng.sample(list(_filled(_ABOUT_WORD[2:], _OPPOSITES)), 180),
        *_filled(("What is the plural of {}?", "Write the plural of {}."), _SINGULARS),
        *_filled(("What is the past tense of {}?", "What is the past participle of {}?"), _VERBS),
        *(f"How many {many} are in {_article(one)}?" for many, one in _UNITS),
        *(f"How many {many} does {_article(one)} have?" for many, one in _UNITS),
        *_filled(("What is the chemical symbol for {}?", "What is {} used for?"), _ELEMENTS),
        *_filled(("Who wrote {}?", "Who is the author of {}?", "What is {} about?"), _WORKS),
        *(f"Who {deed}?" for deed in _WHO),
        *rng.sample(list(_filled(_ABOUT_TOPIC, _TOPICS)), 420),
        *_filled(_ABOUT_TASK, _TASKS),
        *rng.sample(translations, 130),
        *_filled(("Write a Python function that {}.", "Write code that {}."), _CODE),
        *_filled(("What does {} stand for?", "What is {} short for?"), _ACRONYMS),
        *(f"Which {kind} comes after {word}?" for word, kind in _CHAIN),
        *(f"What {kind} comes before {word}?" for word, kind in _CHAIN),
        *_filled(("What color is {}?", "What colour is {}?"), _COLOURED),
        *_YES_OR_NO,
        *(f"{question} Answer yes or no." for question in _YES_OR_NO),
        *_filled(("What is {}?", "Do you know what {} is?"), _BIGGEST),
        *_sums(rng, num_sums),
        *_about_nouns(nouns, rng, num_nouns),
        *_OTHER,
    ]
    return list(dict.fromkeys(questions))
