// The question and its media: attach, drop, paste, record, photograph, weigh.

import { alertUser, byId, element } from "./dom.js";
import { attachmentOf, KIND_NAMES } from "./media.js";
import { previewOf } from "./previews.js";

export class Composer {
  /** `onSend(text, attachments)` is called with at least one of both. */
  constructor(onSend) {
    this.attachments = [];
    this.onSend = onSend;
    this.busy = false;
    this.question = byId("question");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.question.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    });
    this.question.addEventListener("input", () => this.fit());
    byId("attach").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
    this.listenForDrops();
    document.addEventListener("paste", (event) => this.add([...(event.clipboardData?.files ?? [])]));
    byId("record").addEventListener("click", () => this.toggleRecording());
    this.listenForCamera();
  }

  fit() {
    this.question.style.height = "auto";
    this.question.style.height = `${Math.min(this.question.scrollHeight, 200)}px`;
  }

  add(files) {
    for (const file of files) {
      try {
        this.attachments.push(attachmentOf(file));
      } catch (error) {
        alertUser(error.message);
      }
    }
    if (files.length) this.show();
  }

  show() {
    byId("attachments").replaceChildren(...this.attachments.map((attachment) => this.card(attachment)));
  }

  card(attachment) {
    attachment.shown ??= previewOf(attachment);
    const { kind, name } = attachment;
    const holder = element("div", { class: "preview" });
    attachment.shown.then((preview) => holder.append(preview));
    const value = element("output", {}, String(attachment.weight));
    const slider = element("input", {
      type: "range", min: -2, max: 2, step: 0.1, value: attachment.weight, "aria-label": `Weight of ${name}`,
      input: (event) => {
        attachment.weight = Number(event.target.value);
        value.textContent = event.target.value;
      },
    });
    const remove = () => {
      this.attachments = this.attachments.filter((other) => other !== attachment);
      this.show();
      this.question.focus();
    };
    return element(
      "li",
      { "data-kind": kind },
      holder,
      element("p", { class: "name", title: name }, `${KIND_NAMES[kind]}: ${name}`),
      element("label", { class: "weight" }, "weight ", slider, value),
      element("button", { type: "button", class: "icon remove", "aria-label": `Remove ${name}`, click: remove }, "×"),
    );
  }

  send() {
    const text = this.question.value.trim();
    if (this.busy || (!text && !this.attachments.length)) return;
    const media = this.attachments.map(({ kind, name, blob, weight }) => ({ kind, name, blob, weight }));
    this.attachments = [];
    this.question.value = "";
    this.fit();
    this.show();
    this.onSend(text, media);
  }

  setBusy(busy) {
    this.busy = busy;
    byId("stop").hidden = !busy;
    byId("send").hidden = busy;
  }

  listenForDrops() {
    const zone = byId("drop-zone");
    const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      zone.hidden = false;
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) zone.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      zone.hidden = true;
      this.add([...event.dataTransfer.files]);
    });
  }

  async toggleRecording() {
    const button = byId("record");
    if (this.recorder) {
      this.recorder.stop();
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      alertUser("The microphone is not available; allow it for this page, or attach a sound file.");
      return;
    }
    const pieces = [];
    this.recorder = new MediaRecorder(stream);
    this.recorder.ondataavailable = (event) => pieces.push(event.data);
    this.recorder.onstop = () => {
      const type = this.recorder.mimeType.split(";")[0];
      const extension = type === "audio/mp4" ? "m4a" : type.split("/")[1];
      stream.getTracks().forEach((track) => track.stop());
      this.recorder = null;
      button.setAttribute("aria-pressed", "false");
      this.add([new File(pieces, `recording.${extension}`, { type })]);
    };
    this.recorder.start();
    button.setAttribute("aria-pressed", "true");
  }

  listenForCamera() {
    const dialog = byId("camera-dialog");
    const view = byId("camera-view");
    byId("camera").addEventListener("click", async () => {
      try {
        view.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
        dialog.showModal();
      } catch {
        alertUser("The camera is not available; allow it for this page, or attach a picture.");
      }
    });
    dialog.addEventListener("close", () => {
      view.srcObject?.getTracks().forEach((track) => track.stop());
      view.srcObject = null;
    });
    byId("camera-close").addEventListener("click", () => dialog.close());
    byId("camera-shot").addEventListener("click", () => {
      const canvas = element("canvas", { width: view.videoWidth, height: view.videoHeight });
      canvas.getContext("2d").drawImage(view, 0, 0);
      canvas.toBlob((blob) => {
        if (blob) this.add([new File([blob], "photo.jpg", { type: "image/jpeg" })]);
        dialog.close();
      }, "image/jpeg", 0.92);
    });
  }
}
