"""The words of the conversations that teach `mini` to talk about a condition: questions per sense and purpose."""

from __future__ import annotations

WHAT = (
    "What is this?", "What is this?", "What is this?", "What is this?", "What is in this picture?", "What's this?",
    "What do you see?", "What is shown here?", "What is in the photo?", "What can you see in this image?",
    "Identify this.", "Identify the object in the image.", "What am I looking at?", "Can you tell me what this is?",
    "Tell me what is in the picture.", "What does the image show?", "What does this picture show?",
    "Name the main object in the photo.", "What object is this?", "What is the main subject of this photo?",
    "what is this", "whats in this picture?", "Do you know what this is?", "Please tell me what this photo shows.",
    "What is this a picture of?", "Look at the image. What is it?", "What kind of thing is this?", "What is that?",
    "Which object do you recognise?", "Can you identify this?", "I took this photo. What is it?", "Guess what this is.",
    "What do you notice?", "What things are here?", "What is here?", "What is it?", "what's that?",
)  # fmt: skip
DESCRIBE = (
    "Describe the picture in one sentence.", "Describe this image.", "Describe what you see.", "Describe the photo.",
    "Please describe the image briefly.", "Give a short description of the picture.", "What is happening here?",
    "Summarize the image in one sentence.", "Explain what the image shows.", "Describe this photo for a blind person.",
    "Describe it.", "What is in the scene?", "Describe the scene.", "Describe the photo in detail.",
    "Give a detailed description of the image.", "Please describe this picture.", "Describe the picture to me.",
    "In a sentence, what does the picture show?", "What does the photo look like?", "What is the picture about?",
    "What can you tell me about this picture?", "Describe the photograph in your own words.",
)  # fmt: skip
CAPTION = (
    "Write a short caption.", "Write a caption for this image.", "Caption this.", "Give this photo a title.",
    "Write a one-line caption for the photo.", "Provide a caption for this picture.", "Suggest a caption.",
    "Write alt text for this image.", "Think of a caption for my picture.", "What would be a good caption?",
    "Give me a short caption for this picture.", "I need a caption for this photograph.", "Title this picture.",
    "Write a brief caption.", "Caption the image in a few words.", "Write a description for the photo album.",
)  # fmt: skip
ONE_WORD = (
    "What is this? Answer with the name only.", "In one word, what is this?", "Name it, nothing else.",
    "Answer with just the name of the object.", "What is this? Reply with one or two words.", "Label this image.",
    "What is it? One word.", "Only the name, please: what is it?",
)  # fmt: skip
HEAR = (
    "What do you hear?", "What can you hear?", "What do you hear in this recording?", "What can be heard?",
    "What am I hearing?", "What do I hear?", "Listen to this. What do you hear?", "Tell me what you hear.",
    "What is heard in the clip?", "Can you hear what it is?",
)  # fmt: skip
SOUND = (
    "What is this sound?", "What sound is this?", "What is in the audio?", "Identify the sound.", "What noise is this?",
    "Describe the sound.", "Describe the audio in one sentence.", "What makes this sound?", "What is making the noise?",
    "What kind of sound is it?", "What is the sound in the recording?", "Which sound is this?", "Name the sound.",
    "What does the audio contain?", "Caption this audio.", "Describe this recording.", "What was recorded here?",
)  # fmt: skip
VIDEO = (
    "What happens in the video?", "What is in the video?", "What does the video show?", "Describe the video.",
    "What do you see in this video?", "Describe the clip in one sentence.", "What is shown in the clip?",
    "What is going on in the video?", "What does the film show?", "Summarize the video.", "Caption this video.",
    "What can be seen in the footage?", "What is this video about?", "Tell me what the video shows.",
)  # fmt: skip
SHAPE = (
    "What object is this point cloud?", "What does the point cloud show?", "What is this point cloud?",
    "What is this 3D shape?", "What shape is this?", "What object was scanned?", "Identify the 3D model.",
    "What does this 3D model show?", "Which object do these points form?", "What is the scanned object?",
    "Describe the point cloud.", "What is this mesh?", "What kind of object is the 3D scan?", "Name the 3D object.",
    "Describe the shape in one sentence.", "Give the point cloud a caption.",
)  # fmt: skip
OF_KIND = (
    "What {kind} is this?", "Which {kind} is this?", "What {kind} is in the photo?", "What kind of {kind} is this?",
    "What type of {kind} is shown?", "Which {kind} do you see?", "Name the {kind} in the picture.",
    "What {kind} is shown here?", "Which {kind} is in the picture?",
)  # fmt: skip
OF_KIND_HEARD = (
    "What {kind} do you hear?", "Which {kind} makes this sound?", "What {kind} is this?", "Which {kind} is it?",
)  # fmt: skip
WHICH_KIND = (
    "What kind of thing is it?", "What category does it belong to?", "What sort of thing is this?",
    "What type of object is it?", "What kind of thing is that?",
)  # fmt: skip
IS_IT = (
    "Is this {a}?", "Is this {a}?", "Is it {a}?", "Is that {a}?", "Would you call this {a}?", "Is the object {a}?",
    "This is {a}, right?", "Do you think this is {a}?", "Would you say it is {a}?", "Could this be {a}?",
    "is this {a}", "Am I right that this is {a}?", "Does this look like {a}?", "Is it really {a}?",
)  # fmt: skip
IS_SEEN = (
    "Is there {a} in the picture?", "Does the photo show {a}?", "Is the thing in the image {a}?", "Do you see {a}?",
    "Can you see {a} in the image?", "Is {a} visible in the photo?", "Is this a picture of {a}?", "Is there {a} here?",
    "Does this image contain {a}?", "Is there {a} in this photo?", "Does the picture show {a}?", "Is {a} shown here?",
)  # fmt: skip
IS_HEARD = (
    "Is this the sound of {a}?", "Do you hear {a}?", "Can you hear {a}?", "Is this sound made by {a}?",
    "Is there {a} in the recording?", "Is it {a}?", "Does it sound like {a}?", "Is {a} making this noise?",
)  # fmt: skip
IS_FILMED = (
    "Is there {a} in the video?", "Does the video show {a}?", "Do you see {a} in the clip?", "Is it {a}?",
    "Can {a} be seen in the film?",
)  # fmt: skip
IS_SCANNED = (
    "Is this point cloud {a}?", "Is the scanned object {a}?", "Is this shape {a}?", "Is the 3D model {a}?",
    "Does the point cloud show {a}?", "Is it {a}?",
)  # fmt: skip
YES_OR_NO = (
    " Answer yes or no.", " Yes or no?", " Answer with yes or no only.", " (yes/no)", " Just say yes or no.",
    " Reply yes or no.", " Answer yes or no, please.",
)  # fmt: skip
BEFORE_YES_OR_NO = ("Yes or no: ", "Answer yes or no: ", "Tell me, yes or no: ")
TRAITS = (  # questions about what a thing is like -> the groups of which one makes the answer yes
    ("Is it alive?", ("animal", "plant", "person")), ("Is this alive?", ("animal", "plant", "person")),
    ("Is this a living thing?", ("animal", "plant", "person")), ("Can you eat it?", ("food",)),
    ("Is it a living being?", ("animal", "plant", "person")),
    ("Is this something living?", ("animal", "plant", "person")),
    ("Is it edible?", ("food",)), ("Is this something to eat?", ("food",)), ("Can I eat this?", ("food",)),
    ("Can you wear it?", ("piece of clothing",)), ("Is this something to wear?", ("piece of clothing",)),
    ("Can I ride in it?", ("vehicle",)), ("Could I travel in it?", ("vehicle",)),
    ("Can you play music on it?", ("musical instrument",)), ("Can you make music with it?", ("musical instrument",)),
    ("Does it grow in the ground?", ("plant",)), ("Can you sit or sleep on it?", ("piece of furniture",)),
)  # fmt: skip
UNSEEN = (
    "What colour is it?", "What color is it?", "How many are there?", "How big is it?", "What is in the background?",
    "Where was this photo taken?", "Who made this?", "How old is it?", "What does the text say?", "What time is it?",
    "Count the objects in the picture.", "What colour is the object?", "Is it red or blue?", "How many do you see?",
    "Read the text in the image.", "What is written on it?", "Who is this?", "When was the picture taken?",
    "What is on the left?", "What is it made of?", "How much does it weigh?", "What brand is it?", "Is it new?",
    "How many people are there?", "What is the weather like in the photo?", "What colors do you see?",
)  # fmt: skip
UNHEARD = (
    "How loud is it?", "Who is speaking?", "What do they say?", "How long is the recording?", "How many are there?",
    "Where was this recorded?", "What is the title of the song?", "Transcribe the audio.", "How far away is it?",
)  # fmt: skip
UNCOUNTED = (
    "How many are there?", "How many do you see?", "How many of them are there?", "How many are in the picture?",
    "Count them.", "Count the objects in the picture.", "How many things are shown?", "Is there more than one?",
)  # fmt: skip
MORE = (
    "Tell me more about it.", "Tell me more.", "What can you tell me about it?", "What else can you say about it?",
    "Can you tell me more?", "What do you know about it?", "Tell me something about this.", "Say more about it.",
    "Give me more details.", "Anything else?", "What more do you see?", "Explain what it is.",
)  # fmt: skip
USE = (
    "What is it used for?", "What is it for?", "What do people do with it?", "What would you use it for?",
    "What is this used for?", "What can I do with it?", "What is it good for?", "What is the object used for?",
)  # fmt: skip
USES = {  # group -> what people do with its things
    "food": "eat", "piece of clothing": "wear", "vehicle": "travel in or carry things with", "tool": "work with",
    "musical instrument": "make music with", "piece of furniture": "furnish rooms with",
}  # fmt: skip
CERTAIN = ("Are you sure?", "How sure are you?", "Are you certain?", "Is that right?", "Really?")
AGAIN = (
    "So what is it?", "What is it called?", "And what is this?", "Please say again what it is.", "What was it again?",
    "Repeat what it is, please.", "So what is it called?", "Tell me its name once more.",
)  # fmt: skip
NO_ONE_SAYS = frozenset(
    {"object", "device", "structure", "instrument", "machine", "landscape", "fabric", "person", "human sound", "music",
     "animal sound", "sound of nature", "sound of water", "container", "animal"}
)  # fmt: skip
