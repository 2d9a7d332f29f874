"""The words that teach `mini` to judge yes-or-no questions: how they are asked, and what else is not one."""

from __future__ import annotations

from training.recipes import mini_wordings as words

ASKS = (  # beside those of `mini_wordings`; none is a question that `benchmarks.phrasings` asks in other words
    "Isn't this {a}?", "Is this not {a}?", "This looks like {a} to me. Correct?", "I say it is {a}. Is that true?",
    "Can this be {a}?", "Might it be {a}?", "Is what I see {a}?", "Is what you see {a}?", "Is the main object {a}?",
    "Did I photograph {a}?", "Have I taken a photo of {a}?", "Was that {a}?", "Am I looking at {a}?",
    "Are we looking at {a}?", "Would {a} be the right name for it?", "Can I call this {a}?", "Is that thing {a}?",
    "so it's {a}?", "It is {a}, isn't it?", "That's {a}, right?", "{a}?", "A photo of {a}, right?",
    "Is {a} in the image?", "Does this photograph contain {a}?", "Is this some kind of {n}?", "Is it a type of {n}?",
    "Is this thing {a} or not?", "Do I see {a}?", "My friend says this is {a}. Is that true?", "Is it {a} or not?",
    "Someone told me it is {a}. Is it?", "Have you spotted {a} in the image?", "Any {n} in the picture?",
    "Is there any {n}?", "Can you find {a} in the photo?", "Is this object {a}?", "Does that look like {a} to you?",
    "Is there {a}?", "Is {a} visible?", "Is {a} present in the picture?", "Would you agree that it is {a}?",
    "Is the subject of the photo {a}?", "Is {a} what the image shows?", "Does the image depict {a}?",
    "Is {a} depicted here?", "Is this what people call {a}?", "Was this a photo of {a}?", "Is it perhaps {a}?",
    "Do you recognise {a} in this?", "Do you recognize this as {a}?", "I believe it's {a}. Do you agree?",
    "Surely this is {a}?", "Is this by any chance {a}?", "Is one of the things here {a}?", "Can we see {a} here?",
    "Did you see {a}?", "You see {a}, don't you?", "Are there any {n}s in this picture?", "Do you see any {n}?",
    "Does it count as {a}?", "Does this belong to the category {n}?", "Is it a kind of {n}?", "Is it {a} at all?",
    "Does the drawing show {a}?", "Is the thing you see {a}?", "Tell me whether this is {a}.",
    "Tell me if this is {a}.", "Can you tell me whether it is {a}?", "Can you check if there is {a} in the photo?",
    "Could you confirm that this is {a}?", "Please check: is this {a}?", "I wonder if this is {a}. Is it?",
    "Is the sound {a}?", "Did you hear {a}?", "Is this clip about {a}?", "Is the recording of {a}?",
    "Does this mesh show {a}?", "Is the model of {a}?", "Was {a} scanned?", "Was {a} recorded here?",
    "Was {a} filmed?",
)  # fmt: skip
HELD_OUT_ASKS = (  # measure the head; `benchmarks.phrasings` asks some of them
    "I think this is {a}. Am I right?", "Do you see {a} here?", "Could it be that this is {a}?",
    "Does the photograph show {a}? Reply with yes or no.", "I mean: is it {a}?", "Would an expert say this is {a}?",
    "Is the item in my photo {a}?", "Does my picture have {a} in it?", "Is that thing over there {a}?",
    "To your mind, is it {a}?", "I would bet that this is {a}. True?", "Yes or no, is it {a}?",
)  # fmt: skip
_POINTED = ("this", "this", "it", "that", "the {m}", "my {m}", "this {m}", "the thing", "the object", "the main thing",
            "the thing in the {m}", "the object in my {m}", "what you see", "what is shown", "the {m} here",
            "this thing")  # fmt: skip
_HEDGED = ("", "", "", " really", " maybe", " actually", " perhaps", " possibly", " truly", " in fact", " indeed")
_SEES = ("see", "spot", "find", "notice", "recognise", "make out", "detect", "hear", "identify", "observe")
_PLACED = ("", "", " in the {m}", " in this {m}", " in my {m}", " here", " there", " on the {m}", " in it", " anywhere")
_OWN = ("this", "the", "my", "that", "your", "the attached", "this little", "the uploaded")
_ENDS = ("", "", "", ", do you think", ", or not", ", would you say", ", please", " after all", " or am I wrong")
FRAMES = (  # each a sentence when one piece of every slot is drawn
    (("Is ", "Was ", "Isn't ", "is "), _POINTED, _HEDGED, (" {a}", " {a}", " {a}", " a kind of {n}", " some {n}"),
    _ENDS, ("?",)),
    (("Could ", "Can ", "Might ", "Would "), _POINTED, _HEDGED, (" be {a}",), _ENDS, ("?",)),
    (("Does ", "Did "), _OWN, (" {m} ",), ("show", "contain", "have", "depict", "include", "feature", "hold"),
    (" {a}",),
     ("", "", " in it", " somewhere", " at all"), _ENDS, ("?",)),
    (("Do ", "Can ", "Could ", "Did "), ("you ", "you ", "we ", "I ", "people "), _SEES, (" {a}", " {a}", " any {n}"),
     _PLACED, _ENDS, ("?",)),
    (("Is ", "Was ", "Isn't "), ("there {a}", "there {a}", "{a}"), (" visible", " to be seen", " present", "",
    " shown"),
     _PLACED, _ENDS, ("?",)),
    (("Are there any {n}s", "Are these {n}s", "Were there {n}s", "Do you see {n}s"), _PLACED, _ENDS, ("?",)),
    (("I ", "I ", "We ", "You "), ("believe ", "guess ", "bet ", "say ", "suppose ", "assume ", "would say ", "think "),
     ("this is ", "it is ", "it's ", "that is ", "there is ", "I see "), ("{a}",), _PLACED, (". ", "; ", ", "),
     ("Am I right?", "Correct?", "True?", "Is that right?", "Right?", "Is that so?", "Do you agree?", "Is it?",
      "Is that correct?", "Is it true?", "Am I correct?", "Yes?")),
    (("This is ", "It is ", "That is ", "That's ", "It's "), ("{a}",), _PLACED, (", ", ". "),
     ("right?", "correct?", "isn't it?", "true?", "yes?", "is it not?", "don't you think?", "agreed?")),
)  # fmt: skip
BEFORE = (
    *words.BEFORE_YES_OR_NO, "Hi! ", "Please tell me: ", "Quick question: ", "Look at the photo. ", "Hey, ", "Hello. ",
    "Look closely. ", "Think carefully. ", "One more question: ", "And ", "OK, ", "Now tell me: ", "So ",
)  # fmt: skip
AFTER = (
    *words.YES_OR_NO, " Thanks.", " Please answer briefly.", " Only yes or no.", " Answer in one word.", " Be honest.",
    " Please.", " Reply with one word.", " What do you think?", " Say yes or no.", " I am not sure.", " Tell me.",
)  # fmt: skip
ATTRIBUTES = (
    "red", "blue", "green", "yellow", "black", "white", "big", "small", "old", "new", "expensive", "cheap", "heavy",
    "broken", "dirty", "clean", "real", "fake", "beautiful", "ugly", "cute", "fast", "slow", "dangerous", "safe",
    "asleep", "awake", "happy", "sad", "angry", "hungry", "wet", "dry", "hot", "cold", "open", "closed", "full",
    "empty", "round", "square", "long", "short", "young", "male", "female", "rare", "common", "useful", "soft", "hard",
    "in focus", "blurry", "made of wood", "made of metal", "made of plastic", "alone", "indoors", "outdoors",
    "for sale", "any good", "famous", "modern", "antique", "moving", "loud", "quiet", "poisonous", "friendly", "tame",
    "striped",
)  # fmt: skip
ATTRIBUTE_ASKS = (
    "Is it {j}?", "Is this {j}?", "Is the {n} {j}?", "Is this {n} {j}?", "Does it look {j}?", "Does the {n} look {j}?",
    "Is the thing in the picture {j}?", "Would you say it is {j}?", "Is it really {j}?", "Is that {n} {j}?",
    "Do you think the {n} is {j}?", "Is it {j} or {k}?", "Is the {n} {j} or {k}?", "Was it {j}?", "Are they {j}?",
)  # fmt: skip
OTHER_ASKS = (  # not for yes or no, or for more than whether the thing is one
    "Is this {a} or {b}?", "Is it {a} or {b}?", "Is there {a} or {b} in the picture?", "{a} or {b}?",
    "Which is it, {a} or {b}?", "Does the photo show {a} or {b}?", "Would you call it {a} or rather {b}?",
    "Is that {a}, {b} or something else?", "Is this {a} and why?", "Why is this {a}?", "Why is there {a}?",
    "How do you know it is {a}?", "Is it bigger than {a}?", "Does it have {a}?", "Does the {n} have {b}?",
    "Is the {n} near {b}?", "Is it next to {a}?", "Can you describe the {n}?", "Could you tell me about the {n}?",
    "Can you tell me more about the {n}?", "Do you know which {n} it is?", "Can you name the {n}?",
    "Could you write a story about the {n}?", "Would you write a caption for my {n}?", "What {n} is it?",
    "What is the {n} doing?", "What colour is the {n}?", "Where is the {n}?", "How many {n}s are there?",
    "Who owns this {n}?", "When was the {n} made?", "Do you like the {n}?", "Have you ever seen such a {n}?",
    "Is it heavier than {a}?", "Does it eat {n}s?", "Can I use it as {a}?", "Should I buy this {n}?",
    "Is it worth more than {a}?", "Would it fit into {a}?", "Is the {n} on the left or on the right?",
    "Does the {n} belong to someone?", "Is it for {a}?", "Can the {n} fly?", "Does it bite?", "Did somebody draw it?",
    "Is there text in the picture?", "Is this a good photo?", "Can you see what it is?", "Do you know what this is?",
    "Can you tell what the {n} is?", "Do you see what is on the {n}?", "This is {a}.", "I like this {n}.",
    "It is {a}. What do I do with it?", "This is {a}. Tell me about it.", "If this is {a}, what is it for?",
    "What is this, {a}?", "Explain the difference between this and {a}.", "Is it a boy or a girl?",
    "Is it day or night?", "Is it big or small?", "Can you count the {n}s?", "Are there two {n}s?",
    "Are there many {n}s?", "Is there more than one {n}?", "Is it my {n}?", "Whose {n} is this?",
    "Is this how {a} looks?", "Could you make it look like {a}?", "Can you draw {a}?",
    "Tell me a joke about the {n}.", "Translate {n} to French.",
)  # fmt: skip
# What is further true of a kind, for people say both; the kinds are those of `vocabulary.json` and `mini_names.json`.
_MAMMAL, _PART = ("mammal", "animal"), ("device",)
ALSO = {
    **dict.fromkeys(("dog", "cat", "rabbit"), (*_MAMMAL, "pet")),
    **dict.fromkeys(("big cat", "wild cat"), (*_MAMMAL, "cat", "wild animal")),
    **dict.fromkeys(("wolf", "fox", "bear"), (*_MAMMAL, "wild animal")),
    **dict.fromkeys(("monkey", "ape", "lemur"), (*_MAMMAL, "primate")),
    **dict.fromkeys(("rodent", "hoofed animal", "horse", "cow", "sheep", "goat", "pig", "camel", "elephant", "panda",
                     "kangaroo", "antelope", "sloth"), _MAMMAL),
    **dict.fromkeys(("bird", "insect", "spider", "snail", "mammal", "reptile", "amphibian", "sea animal"), ("animal",)),
    "whale": (*_MAMMAL, "sea animal"), "shark": ("fish", "sea animal", "animal"), "fish": ("animal",),
    **dict.fromkeys(("snake", "lizard", "turtle", "dinosaur"), ("reptile", "animal")),
    **dict.fromkeys(("frog", "salamander"), ("amphibian", "animal")),
    **dict.fromkeys(("butterfly", "beetle"), ("insect", "animal")),
    **dict.fromkeys(("crab", "lobster", "crustacean"), ("sea animal", "crustacean", "animal")),
    **dict.fromkeys(("car", "truck", "bus", "van"), ("vehicle", "motor vehicle")),
    **dict.fromkeys(("train", "bicycle", "cart", "sled"), ("vehicle",)), "motorcycle": ("vehicle", "motor vehicle"),
    **dict.fromkeys(("boat", "ship"), ("vehicle", "boat", "ship", "watercraft")),
    **dict.fromkeys(("aircraft", "airplane"), ("vehicle", "aircraft", "flying machine")),
    **dict.fromkeys(("chair", "table", "bed", "sofa", "cupboard"), ("piece of furniture", "furniture")),
    **dict.fromkeys(("gun",), ("weapon", "firearm")),
    **dict.fromkeys(("hat", "shoe", "piece of footwear", "coat", "dress", "shirt", "stocking", "underwear", "tie"),
                    ("piece of clothing", "clothing")),
    "shoe": ("piece of footwear", "piece of clothing", "footwear"),
    **dict.fromkeys(("fruit", "vegetable", "bread", "dessert", "sauce"), ("food",)), "drink": ("beverage",),
    **dict.fromkeys(("tree", "flower"), ("plant",)), "mushroom": ("fungus",), "piece of furniture": ("furniture",),
    **dict.fromkeys(("computer", "camera", "telephone", "mobile phone", "radio"), ("electronic device", "device")),
    **dict.fromkeys(("clock", "lamp", "appliance", "electronic device", "machine", "optical instrument", "instrument"),
                    _PART),
    **dict.fromkeys(("bowl", "bottle", "box", "jug", "cup"), ("container",)), "piece of clothing": ("clothing",),
    **dict.fromkeys(("building", "bridge", "tower"), ("structure",)), "shop": ("building",), "person": ("human being",),
    **dict.fromkeys(("guitar", "piano"), ("musical instrument", "instrument")), "musical instrument": ("instrument",),
    "vehicle": ("means of transport",), "kitchen tool": ("tool",), "medical tool": ("tool",),
}  # fmt: skip
VAGUE = frozenset({"object", "device", "machine", "structure", "container", "instrument", "fabric", "electronic device",
                   "appliance", "tool", "kitchen tool", "landscape", "animal sound", "music",
                   "sound of nature"})  # fmt: skip
# Kinds whose bounds people draw differently: a no is not taught between one of the first and one of the second.
_FURNITURE, _CLOTHING = ("piece of furniture", "furniture"), ("piece of clothing", "clothing")
_FOODS = ("fruit", "vegetable", "fungus", "mushroom", "nut", "drink", "beverage", "sauce", "bread", "dessert")
_TOOLS = ("weapon", "toy", "knife", "gun", "piece of sports equipment", "medical tool", "stationery", "timer")
UNCLEAR = tuple((frozenset(some), frozenset(others)) for some, others in (
    (VAGUE, (*VAGUE, *_TOOLS, "optical instrument", "musical instrument", "vehicle", "lamp", "clock", *_FURNITURE)),
    (("plant", "food"), (*_FOODS, "plant", "food", "animal", "fish", "sea animal")), (("plant",), ("tree", "flower")),
    (("fruit",), ("vegetable", "nut", "tree")), (("dessert",), ("bread", "fruit")), (("mushroom",), ("fungus",)),
    (("structure", "building", "landscape"), ("building", "bridge", "shop", "tower", "structure", "landscape")),
    (("insect",), ("spider",)), (("hat",), ("helmet", "mask")),
    (("bowl", "cup", "glass"), ("pan", "jug", "cup", "bowl")),
    (_CLOTHING, ("fabric", "bag", "piece of jewellery", "mask", "helmet", "armor", "glasses", "piece of footwear")),
    (("pet", "wild animal"), ("animal", "mammal", "bird", "fish", "reptile", "rodent", "hoofed animal", "lizard")),
    (_FURNITURE, ("lamp", "box", "clock", "cupboard", "appliance")), (("cat",), ("big cat", "wild cat")),
    (("person", "human being"), ("human sound", "mammal", "primate")), (("dog",), ("wolf", "fox")),
    (("boat", "ship", "watercraft"), ("vehicle", "boat", "ship")), (("reptile",), ("dinosaur", "amphibian")),
    (("sea animal",), ("turtle", "bird", "mammal", "fish", "amphibian")), (("toy",), ("vehicle",)),
    (("vehicle",), ("piece of sports equipment",)), (("music",), ("musical instrument", "instrument")),
    (("screen", "computer"), ("electronic device", "telephone", "screen")), (("weapon",), ("knife", "gun", "tool")),
))  # fmt: skip
# A dish may have been an animal; these never were, so that a no to "Is this an animal?" is taught of them.
MEATLESS = frozenset({"fruit", "vegetable", "drink", "bread", "dessert", "sauce", "mushroom", "nut"})
TRAITS = (  # what braces hold is asked for; yes where a group of the thing is among the first, unclear among the second
    (("animal", "plant", "person"), (), ("Is it {alive}?", "Is this {alive}?", "Is this a {living thing}?",
     "Is it a {living being}?", "Is this something {living}?", "Is the thing in the picture {alive}?",
     "Is that {alive}?", "Would you say it is {alive}?", "Is this a {living creature}?", "Is it an {organism}?",
     "Is it {living}?", "Is it something that {lives}?", "Does the photo show something {alive}?",
     "Is it a {lifeform}?")),
    (("food",), ("plant", "animal"), ("Can you {eat} it?", "Is it {edible}?", "Is this something to {eat}?",
     "Can I {eat} this?", "Could I {eat} it?", "Do people {eat} this?", "Is this {edible}?", "Would you {eat} it?",
     "Is it something you can {eat}?", "Is that something {edible}?")),
    (("piece of clothing",), (), ("Can you {wear} it?", "Is this something to {wear}?", "Can I {wear} this?",
     "Do people {wear} it?", "Would someone {wear} this?", "Could I {wear} it?")),
    (("vehicle",), ("animal",), ("Can I {ride} in it?", "Could I {travel} in it?", "Can you {drive} it?",
     "Is it something to {travel} with?", "Could you {ride} this?", "Is this something for {transport}?",
     "Is it a {means of transport}?", "Could someone {travel} with it?")),
    (("musical instrument",), (), ("Can you {play music} on it?", "Can you {make music} with it?",
     "Could I {play music} with this?", "Is it used to {make music}?", "Does it {make music}?")),
    (("plant",), ("food",), ("Does it {grow in the ground}?", "Does it {grow} in a garden?", "Does it have {leaves}?")),
    (("piece of furniture",), ("vehicle", "piece of clothing"), ("Can you {sit or sleep} on it?",
     "Could I {sit on} it?", "Is it a thing to {sit on}?")),
)  # fmt: skip
