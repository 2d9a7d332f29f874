// The page: one conversation at a time, its history beside it.

import { ApiError, listModels, streamChat } from "./api.js";
import { Composer } from "./composer.js";
import { alertUser, byId, element } from "./dom.js";
import { deleteConversation, loadConversations, newConversation, saveConversation } from "./history.js";
import { partOf } from "./media.js";
import { readSettings, requestFields, showSettings } from "./settings.js";
import { liveText, showThread } from "./thread.js";

let conversation = newConversation();
let model = null;
let running = null;
const composer = new Composer(ask);

async function connect() {
  const status = byId("status");
  try {
    [model] = await listModels(readSettings().key);
    status.textContent = `${model.id} ready`;
    status.title = `reads ${model.input_modalities.join(", ")}`;
    status.dataset.state = "ready";
  } catch (error) {
    status.dataset.state = "waiting";
    status.textContent = error.status === 401 ? "needs an API key (settings)" : error.message;
    if (error.status !== 401) setTimeout(connect, 1000);
  }
}

async function wireMessage(message) {
  if (!message.media?.length) return { role: message.role, content: message.text };
  const parts = await Promise.all(message.media.map(partOf));
  return { role: message.role, content: [{ type: "text", text: message.text || "What is this?" }, ...parts] };
}

async function ask(text, media) {
  conversation.messages.push({ role: "user", text, media });
  await answer();
}

async function answer() {
  const reply = { role: "assistant", text: "", pending: true };
  conversation.messages.push(reply);
  showThread(conversation.messages, retry);
  composer.setBusy(true);
  running = new AbortController();
  const append = liveText();
  try {
    const messages = await Promise.all(conversation.messages.slice(0, -1).filter((m) => m.text || m.media?.length).map(wireMessage));
    const request = { model: model?.id, messages, ...requestFields() };
    const onText = (piece) => {
      reply.text += piece;
      append(piece);
    };
    Object.assign(reply, await streamChat(request, { key: readSettings().key, signal: running.signal, onText }));
  } catch (error) {
    if (error.name === "AbortError") reply.stopped = true;
    else reply.error = error instanceof ApiError && error.retryAfterSeconds ? `${error.message} (in ${error.retryAfterSeconds} s)` : error.message;
  }
  delete reply.pending;
  running = null;
  composer.setBusy(false);
  showThread(conversation.messages, retry);
  byId("question").focus();
  await remember();
}

async function retry(index) {
  if (running) return;
  conversation.messages.length = index;
  await answer();
}

async function remember() {
  try {
    await saveConversation(conversation);
  } catch (error) {
    alertUser(`The conversation could not be kept in this browser: ${error.message}`);
  }
  await listConversations();
}

async function listConversations() {
  const all = await loadConversations();
  const rows = all.map((stored) => {
    const open = () => {
      if (running) return;
      conversation = stored;
      showThread(conversation.messages, retry);
      listConversations();
      closeHistory();
    };
    const remove = async () => {
      await deleteConversation(stored.id);
      if (stored.id === conversation.id) startConversation();
      await listConversations();
    };
    return element(
      "li",
      { "aria-current": stored.id === conversation.id ? "true" : null },
      element("button", { type: "button", class: "open", click: open }, stored.title),
      element("button", { type: "button", class: "icon", "aria-label": `Delete ${stored.title}`, click: remove }, "×"),
    );
  });
  byId("conversations").replaceChildren(...rows);
}

function startConversation() {
  running?.abort();
  conversation = newConversation();
  showThread([], retry);
  closeHistory();
  byId("question").focus();
}

function closeHistory() {
  document.body.classList.remove("history-open");
  byId("open-history").setAttribute("aria-expanded", "false");
}

function listenToBar() {
  byId("open-history").addEventListener("click", () => {
    const isOpen = document.body.classList.toggle("history-open");
    byId("open-history").setAttribute("aria-expanded", String(isOpen));
  });
  byId("new-chat").addEventListener("click", () => {
    startConversation();
    listConversations();
  });
  byId("stop").addEventListener("click", () => running?.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) running.abort();
  });
  byId("open-settings").addEventListener("click", () => byId("settings").showModal());
  const root = document.documentElement;
  root.dataset.theme = localStorage.getItem("bindchat.theme") ?? "";
  byId("theme").addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("bindchat.theme", root.dataset.theme);
  });
}

listenToBar();
showSettings(connect);
showThread([], retry);
listConversations();
connect();
