// Stream the answer about a picture: node picture.mjs PICTURE [QUESTION]
import { readFile } from "node:fs/promises";

const [picture, question = "What is this?"] = process.argv.slice(2);
const base = process.env.BASE_URL ?? "http://127.0.0.1:8000/v1";
const headers = { "Content-Type": "application/json", Authorization: `Bearer ${process.env.API_KEY ?? "unused"}` };
const url = `data:application/octet-stream;base64,${(await readFile(picture)).toString("base64")}`;
const content = [{ type: "text", text: question }, { type: "image_url", image_url: { url } }];

const answer = await fetch(`${base}/chat/completions`, {
  method: "POST",
  headers,
  body: JSON.stringify({ messages: [{ role: "user", content }], stream: true }),
});
if (!answer.ok) throw new Error((await answer.json()).error.message);

let pending = "";
for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
  const lines = (pending + piece).split("\n");
  pending = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    const event = JSON.parse(line.slice(6));
    if (event.error) throw new Error(event.error.message);
    process.stdout.write(event.choices[0]?.delta?.content ?? "");
  }
}
process.stdout.write("\n");
