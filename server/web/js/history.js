// Conversations, media included, in this browser's IndexedDB; nothing is kept on the server.

const DATABASE = "bindchat";
const TABLE = "conversations";

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened = null;

function database() {
  if (!opened) {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    opened = done(request);
  }
  return opened;
}

async function table(mode) {
  return (await database()).transaction(TABLE, mode).objectStore(TABLE);
}

export function newConversation() {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "New chat", changed: Date.now(), messages: [] };
}

/** Store a conversation under its first question. */
export async function saveConversation(conversation) {
  const first = conversation.messages.find((message) => message.role === "user");
  conversation.title = (first?.text || first?.media[0]?.name || "New chat").slice(0, 60);
  conversation.changed = Date.now();
  await done((await table("readwrite")).put(conversation));
}

export async function loadConversations() {
  const all = await done((await table("readonly")).getAll());
  return all.sort((a, b) => b.changed - a.changed);
}

export async function deleteConversation(id) {
  await done((await table("readwrite")).delete(id));
}
