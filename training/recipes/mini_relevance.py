"""Learn which questions concern the medium beside them, from the wordings of both kinds (`models.mini.relevance`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from models.mini.articles import article
from models.mini.relevance import NUM_BUCKETS, buckets_of
from training.recipes import mini_wordings as words
from training.recipes.mini_pictures import Name
from training.recipes.mini_questions import IS_OF_SENSE

NUM_STEPS, BATCH, RATE = 600, 512, 0.05
WORD_DROPOUT = 0.15
ELLIPTIC = (  # too short to point at anything; beside a medium they mean it
    "Describe.", "Describe", "Caption?", "Caption", "Name?", "And?", "Why?", "More?", "Tell me more.", "Explain.",
    "What colour?", "What color?", "How many?", "How big?", "Which breed?", "Which one?", "What kind?", "What type?",
    "Colour?", "Breed?", "What?", "Where?", "Who?", "Animal or plant?", "Dead or alive?", "Real or fake?",
    "Cat or dog?", "Animal?", "Vehicle?", "Any people?", "Any animals?", "Any text?", "Are there people?",
    "Was ist das?", "Qu'est-ce que c'est?", "Que es esto?", "Was siehst du?", "Cosa vedi?", "Go on.", "Continue.",
    "Yes or no: animal?", "One word.", "Short answer please.", "Look.", "Listen.", "Watch.", "Guess.", "Guess!",
    "What breed?", "What species?", "Identify.", "Classify.", "Label.", "Title?", "Alt text.", "Summary?", "Details?",
    "What breed is shown?", "Who or what appears?", "What appears?", "What stands out?", "What catches the eye?",
    "Which animal appears?", "What species is it?", "Is anyone there?", "Anything else?", "What else do you see?",
    "Is the animal big?", "Does the animal have fur?", "What is the animal doing?", "What is the person doing?",
    "What is the object used for?", "What would you use it for?", "Tell me about it.", "Tell me something about this.",
    "Write a story about it.", "Write a poem about this.", "Write a poem about the picture.", "What does it eat?",
    "Where does it live?", "What is it used for?", "How does it work?", "Do you like it?",
    "What do you think about it?", "What are these?", "What are those?", "What are they?", "And what are these?",
    "Is it dangerous?", "Is it expensive?", "Can it fly?", "Can it swim?", "Does it have legs?", "Does it make noise?",
    "Is this dangerous?", "Is it bigger than a house?", "Would it fit in a box?", "Have you seen this before?",
)  # fmt: skip
MEDIA = (
    "picture", "photo", "photograph", "image", "snapshot", "drawing", "screenshot", "pic", "video", "clip", "film",
    "footage", "audio", "sound", "recording", "noise", "point cloud", "3D model", "scan", "mesh", "shape", "object",
    "thing", "item", "scene", "attachment", "file", "media", "upload",
)  # fmt: skip
OF_MEDIUM = (
    "Explain the {m} to a child.", "Give me a title for my {m}.", "Tell me about the {m}.", "What is the {m} of?",
    "What's in my {m}?", "Could you describe what is visible in the {m}?", "What does the {m} contain?",
    "Summarise the {m} in three words.", "Write a story about the {m}.", "What is special about this {m}?",
    "Is the {m} real?", "Do you like my {m}?", "What happens in the {m}?", "Who or what is in the {m}?",
    "Look at the {m} and tell me what it is.", "I have a question about the {m}.", "Help me understand the {m}.",
    "Where was the {m} made?", "Can you tell what the {m} is?", "{m}?", "What is the {m}?", "Which {m} is it?",
    "What's the {m} in front of me?", "What do you make of the attached {m}?", "Two words for the {m}, please.",
    "I uploaded a {m}. What is on it?", "Here is a {m}.", "Describe the {m}", "Give the {m} a name.", "The {m}?",
)  # fmt: skip
OF_THING = (
    "What color is the {n}?", "What colour does the {n} have?", "How many {n}s are there?", "Is the {n} big?",
    "What is the {n} doing?", "What does the {n} look like?", "Where is the {n}?", "How old is the {n}?",
    "Does the {n} look happy?", "Describe the {n}.", "Tell me about this {n}.", "Is the {n} new?", "And the {n}?",
    "What breed is the {n}?", "Is a {n} visible?", "Is the {n} alone?", "Which {n} is it?", "Name the {n}.",
    "Is it a {n} or a {o}?", "Is this a {n} or a {o}?", "Can you spot the {n}?", "Is a {n} heard?",
)  # fmt: skip
OF_DEED = (
    "What have I {done}?", "What did I {do}?", "What do you think I {done}?", "I {done} something. What is it?",
    "Guess what I {done}.", "Tell me what I {done}.",
)  # fmt: skip
DEEDS = (
    ("photograph", "photographed"), ("record", "recorded"), ("film", "filmed"), ("scan", "scanned"), ("draw", "drew"),
    ("upload", "uploaded"), ("send", "sent"), ("attach", "attached"), ("capture", "captured"), ("shoot", "shot"),
)  # fmt: skip
HAPPENING = (
    "Is a dog barking?", "Is somebody speaking?", "Is anyone talking?", "Who is speaking?", "Who is singing?",
    "Is it raining?", "Is music playing?", "Which instrument is playing?", "Is someone laughing?", "Is a car passing?",
    "Tell me which instrument is being played.", "What is being played?", "What is playing?", "What is barking?",
    "What is visible?", "Could you describe what is visible?", "What can be seen?", "What can be heard?",
    "What is happening?", "What is going on?", "What's going on here?", "What is being shown?", "What was scanned?",
)  # fmt: skip
_PLAIN_TABLES = (
    words.WHAT, words.DESCRIBE, words.CAPTION, words.ONE_WORD, words.HEAR, words.SOUND, words.VIDEO, words.SHAPE,
    words.WHICH_KIND, words.UNSEEN, words.UNHEARD, words.CERTAIN, words.AGAIN, words.UNCOUNTED, words.MORE, words.USE,
    ELLIPTIC, HAPPENING,
)  # fmt: skip


def media_questions(names: Sequence[Name], rng: random.Random, count: int) -> list[str]:
    """Return questions about a medium in every wording that the adapter is trained on, and elliptic ones."""
    fixed = [question for table in _PLAIN_TABLES for question in table] + [question for question, _ in words.TRAITS]
    asking = [question for table in IS_OF_SENSE.values() for question in table]
    kinds = (*words.OF_KIND, *words.OF_KIND_HEARD)
    found = []
    for _ in range(count):
        name, style = rng.choice(names), rng.random()
        if style < 0.45:
            question = rng.choice(fixed)
        elif style < 0.58:
            form, (do, done) = rng.choice((*OF_MEDIUM, *OF_THING, *OF_DEED)), rng.choice(DEEDS)
            other = rng.choice(names).text
            question = form.format(m=rng.choice(MEDIA), n=rng.choice((name.text, name.kind)), o=other, do=do, done=done)
        elif style < 0.66:
            question = rng.choice(kinds).format(kind=rng.choice((name.kind, *name.groups)))
        else:
            question = rng.choice(asking).format(a=article(rng.choice((name.text, name.kind, *name.groups))))
        if style >= 0.66 and rng.random() < 0.5:
            question = question + rng.choice(words.YES_OR_NO)
        found.append(question)
    return found


def _unknown_words(rng: random.Random) -> str:
    """A text of which nothing is known: beside a medium it should count as being about it."""
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 8))) for _ in range(4))


def train_relevance(names: Sequence[Name], plain: Sequence[str], seed: int, every: int = 1) -> dict[str, Tensor]:
    """Return `relevance.weight` `(NUM_BUCKETS,)` and `relevance.bias` `(1,)`: the log-odds of being plain.

    `every` divides questions and steps.
    """
    rng = random.Random(f"{seed}-relevance")
    media = media_questions(names, rng, 12_000 // every)
    weights = torch.zeros(NUM_BUCKETS + 1, requires_grad=True)  # the last is padding
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weights, bias], lr=RATE, weight_decay=0.002)
    targets = torch.cat((torch.zeros(BATCH // 2), torch.ones(BATCH // 2)))
    for _ in tqdm(range(0, NUM_STEPS, every), desc="relevance", unit="step"):
        about = [rng.choice(media) if rng.random() < 0.9 else _unknown_words(rng) for _ in range(BATCH // 2)]
        texts = [_with_gaps(text, rng) for text in (*about, *rng.choices(plain, k=BATCH // 2))]
        rows = [torch.tensor(buckets_of(text)) for text in texts]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NUM_BUCKETS)
        log_odds = (weights[padded] * (padded < NUM_BUCKETS)).sum(dim=1) + bias
        loss = F.binary_cross_entropy_with_logits(log_odds, targets) + 2e-4 * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {"relevance.weight": weights.detach()[:NUM_BUCKETS].clone(), "relevance.bias": bias.detach()}


def _with_gaps(text: str, rng: random.Random) -> str:
    """Leave out some words, so that no single one decides."""
    return " ".join(word for word in text.split() if rng.random() > WORD_DROPOUT) or text
