"""Ask about a picture through LangChain: python langchain_picture.py PICTURE [QUESTION]"""

import base64
import os
import sys
from pathlib import Path

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

picture = Path(sys.argv[1])
question = sys.argv[2] if len(sys.argv) > 2 else "What is this?"
chat = ChatOpenAI(
    model=os.environ.get("MODEL", "mini"),
    base_url=os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("API_KEY", "unused"),
)
url = f"data:application/octet-stream;base64,{base64.b64encode(picture.read_bytes()).decode()}"
message = HumanMessage(content=[{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}])
for piece in chat.stream([message]):
    print(piece.content, end="", flush=True)
print()
