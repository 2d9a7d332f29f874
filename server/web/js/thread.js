// Show the messages of one conversation.

import { byId, element } from "./dom.js";
import { previewOf } from "./previews.js";
import { seenPanel } from "./seen.js";

function mediaRow(media) {
  const items = media.map((medium) => {
    const weighted = medium.weight === 1 ? "" : ` × ${medium.weight}`;
    const item = element("li", {}, element("p", { class: "name" }, `${medium.name}${weighted}`));
    previewOf(medium).then((preview) => item.prepend(preview));
    return item;
  });
  return element("ul", { class: "media" }, ...items);
}

/** Return the article of one message. */
export function messageArticle(message, { onRetry }) {
  const text = element("p", { class: "text" }, message.text);
  const article = element("article", { class: message.role, "aria-label": message.role === "user" ? "You" : "BindChat" });
  if (message.media?.length) article.append(mediaRow(message.media));
  article.append(text);
  if (message.error) article.append(element("p", { class: "error", role: "alert" }, message.error));
  if (message.role === "assistant" && !message.pending) {
    const panel = seenPanel(message.bind, message.usage);
    if (panel) article.append(panel);
    const copy = () => navigator.clipboard.writeText(message.text);
    article.append(
      element(
        "div",
        { class: "actions" },
        element("button", { type: "button", click: copy }, "Copy"),
        element("button", { type: "button", class: "retry", click: onRetry }, "Retry"),
        message.stopped ? element("span", { class: "note" }, "stopped") : null,
      ),
    );
  }
  return article;
}

/** Show every message, the newest in view. */
export function showThread(messages, onRetry) {
  const articles = messages.map((message, index) => messageArticle(message, { onRetry: () => onRetry(index) }));
  byId("welcome").hidden = messages.length > 0;
  byId("thread").replaceChildren(...articles);
  articles.at(-1)?.scrollIntoView({ block: "end" });
}

/** Return a function that appends text to the newest message. */
export function liveText() {
  const article = byId("thread").lastElementChild;
  const text = article.querySelector(".text");
  article.setAttribute("aria-busy", "true");
  return (piece) => {
    text.append(piece);
    article.scrollIntoView({ block: "end" });
  };
}
