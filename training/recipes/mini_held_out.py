"""Keep the questions that `mini` is measured on, and close rewordings of them, out of its training.

`HELD_OUT` repeats the questions of `benchmarks.unrelated`, since training and benchmarks do not import each other;
a test compares the two lists.
"""

from __future__ import annotations

import re

HELD_OUT = (
    "What is the capital of Australia?",
    "What is the capital of South Korea?",
    "What is the capital of the Netherlands?",
    "What is the capital of Cuba? Be brief.",
    "Which city is the capital of Scotland?",
    "Paris is the capital of which country?",
    "What is 3 plus 4?",
    "What is 10 plus 10?",
    "What is 9 minus 5?",
    "What is 6 times 6?",
    "What is 100 divided by 4?",
    "What is 1 plus 1?",
    "What is the opposite of day?",
    "What is the opposite of black?",
    "What is the opposite of love?",
    "What is the opposite of young?",
    "What is the chemical formula of carbon dioxide?",
    "What gas do we breathe to live?",
    "What is the freezing point of water in Celsius?",
    "At what temperature does water boil?",
    "Which planet is known as the Red Planet?",
    "What is the biggest planet of the solar system?",
    "What star is at the centre of our solar system?",
    "How many planets are in the solar system?",
    "What is the smallest prime number?",
    "How many sides does a triangle have?",
    "How many hours are in a day?",
    "How many seconds are in a minute?",
    "Which month comes after March?",
    "What day comes after Friday?",
    "Who wrote Romeo and Juliet?",
    "Who wrote The Odyssey?",
    "Who developed the theory of relativity?",
    "Who was the first man on the moon?",
    "Who discovered gravity?",
    "Which language do people speak in Mexico?",
    "What language is spoken in Germany?",
    "What is the currency of the United Kingdom?",
    "What is the currency of the United States?",
    "What is the largest ocean on earth?",
    "On which continent is Egypt?",
    "What do cows drink, water or petrol?",
    "What colour do you get when you mix blue and yellow?",
    "What is H2O?",
    "What does CPU stand for?",
    "What does WWW stand for?",
    "In what year did the Second World War end?",
    "What is the plural of child?",
    "What is the past tense of go?",
    "What organ pumps blood through the body?",
)  # fmt: skip
_FILLERS = frozenset((
    "a", "an", "and", "answer", "are", "as", "at", "be", "brief", "by", "called", "can", "celsius", "city", "comes",
    "could", "country", "did", "do", "does", "earth", "for", "from", "get", "give", "has", "have", "how", "i", "in",
    "is", "it", "its", "known", "long", "many", "me", "much", "my", "name", "of", "on", "one", "or", "people",
    "please", "point", "s", "say", "stand", "tell", "temperature", "that", "the", "their", "there", "they", "this",
    "to", "was", "we", "were", "what", "when", "where", "which", "who", "whom", "whose", "world", "would", "year",
    "you", "your",
))  # fmt: skip
_SAME = {"+": "plus", "add": "plus", "sum": "plus", "-": "minus", "subtract": "minus", "x": "times", "*": "times",
         "multiplied": "times", "multiply": "times", "/": "divided", "divide": "divided", "colour": "color",
         "biggest": "largest", "language": "speak", "spoken": "speak", "money": "currency", "author": "wrote",
         "written": "wrote", "what's": "what", "antonym": "opposite", "centre": "center", "boiling": "boil",
         "boils": "boil", "freezing": "freeze", "freezes": "freeze", "planets": "planet", "days": "day",
         "hours": "hour", "ii": "second", "seconds": "second", "minutes": "minute", "sides": "side"}  # fmt: skip
_TOO_ALIKE = 0.5


def content_words(question: str) -> frozenset[str]:
    """Return the words of a question that carry its meaning, rewordings folded together."""
    found = re.findall(r"[a-z0-9']+|[-+*/]", question.lower().replace("past tense", "pasttense"))
    return frozenset(_SAME.get(word, word) for word in found) - _FILLERS


_HELD_OUT_WORDS = tuple(content_words(question) for question in HELD_OUT)
_SUMS = frozenset(tuple(sorted(numbers)) for question in HELD_OUT if len(numbers := re.findall(r"\d+", question)) == 2)


def is_held_out(question: str) -> bool:
    """Say whether a question is held out, or too much like one that is.

    Sums are alike when their two numbers are the same; other questions when half or more of the words that
    either has are common to both.
    """
    numbers = re.findall(r"\d+", question)
    if len(numbers) == 2:
        return tuple(sorted(numbers)) in _SUMS
    words = content_words(question)
    return any(len(words & other) >= _TOO_ALIKE * len(words | other) for other in _HELD_OUT_WORDS)
