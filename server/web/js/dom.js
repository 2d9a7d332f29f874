// Build and find elements.

export function byId(id) {
  return document.getElementById(id);
}

/** Return a new element with attributes (functions become listeners) and children (strings become text). */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (typeof value === "boolean") made.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

let hiding;

/** Say something that went wrong, for as long as it takes to read. */
export function alertUser(message) {
  const box = byId("alert");
  box.textContent = message;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => {
    box.hidden = true;
  }, 8000);
}
