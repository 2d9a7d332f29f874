// Talk to the server: models, and one streamed chat completion.

export class ApiError extends Error {
  constructor(message, { status = 0, code = null, retryAfterSeconds = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

function headers(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function refusal(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    error.message = `the server answered ${answer.status} without a reason`;
  }
  const retry = Number(answer.headers.get("retry-after"));
  return new ApiError(error.message ?? `status ${answer.status}`, {
    status: answer.status,
    code: error.code,
    retryAfterSeconds: retry || null,
  });
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the server cannot be reached; is it running?");
  }
}

/** Return the served models. */
export async function listModels(key) {
  const answer = await reach("v1/models", { headers: headers(key) });
  if (!answer.ok) throw await refusal(answer);
  return (await answer.json()).data;
}

/** Return gallery pictures' addresses for the neighbours that have one. */
export function thumbnailUrl(neighbour) {
  const metadata = neighbour.metadata ?? {};
  return typeof metadata.thumbnail === "string" ? metadata.thumbnail : null;
}

/** Yield the JSON payload of each server-sent event until `[DONE]`. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    const frames = pending.split(/\r?\n\r?\n/);
    pending = frames.pop();
    for (const frame of frames) {
      const lines = frame.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      const payload = lines.map((line) => line.slice(5).trimStart()).join("\n");
      if (payload === "[DONE]") return;
      if (payload) yield JSON.parse(payload);
    }
  }
}

/**
 * Stream one completion; `onText` hears each piece. Resolves to `{finish, usage, bind}`; rejects with `ApiError`, or
 * with an `AbortError` once `signal` was aborted.
 */
export async function streamChat(request, { key, signal, onText }) {
  const answer = await reach("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers(key) },
    body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!answer.ok) throw await refusal(answer);
  const result = { finish: null, usage: null, bind: null };
  for await (const event of events(answer.body)) {
    if (event.error) throw new ApiError(event.error.message, { status: 500, code: event.error.code });
    const choice = event.choices?.[0];
    if (choice?.delta?.content) onText(choice.delta.content);
    result.finish = choice?.finish_reason ?? result.finish;
    result.usage = event.usage ?? result.usage;
    result.bind = event.bind ?? result.bind;
  }
  if (!result.finish) throw new ApiError("the reply ended early; try again");
  return result;
}
