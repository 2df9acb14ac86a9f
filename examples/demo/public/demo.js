// What the page does: one function a card, each of which asks the server and shows the answer.

const card = (name) => document.querySelector(`[data-card="${name}"]`);

/** Shows an answer in its card: a status in bold, a remark, and the body. */
function show(name, status, remark, body) {
  const line = card(name).querySelector(".status");
  line.innerHTML = "<b></b> <span></span>";
  line.querySelector("b").textContent = status;
  line.querySelector("span").textContent = remark;
  line.classList.toggle("bad", !/^[123]/.test(status));
  card(name).querySelector(".body").textContent = body;
}

const took = (began) => `${(performance.now() - began).toFixed(1)} ms`;

/** Asks for `url` and shows what comes. */
async function ask(name, url, options = {}) {
  const began = performance.now();
  const answer = await fetch(url, { cache: "no-store", ...options });
  const body = await answer.text();
  const remarks = [`${options.method ?? "GET"} ${url}`, answer.headers.get("Content-Type"), took(began)];
  show(name, `${answer.status} ${answer.statusText}`, remarks.filter(Boolean).join(" · "), body);
  return answer;
}

let tag = null;
let hangUp = null;

const actions = {
  greet: (form) => ask("greet", `/hello/${encodeURIComponent(form.get("name"))}?lang=${form.get("lang")}`),

  statistics: (form) => ask("statistics", "/statistics", { method: "POST", body: form.get("numbers") }),

  async upload(form, button) {
    let file = form.get("file");
    if (button === "random") {
      const block = crypto.getRandomValues(new Uint8Array(65536));
      file = new Blob(Array(1024).fill(block));
    } else if (!file.size) {
      show("upload", "No file", "choose one first, or send noise", "");
      return;
    }
    const progress = card("upload").querySelector("progress");
    const began = performance.now();
    const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
    request.upload.onprogress = (event) => { progress.value = event.loaded / event.total; };
    await new Promise((done) => {
      request.onloadend = done;
      request.open("POST", "/upload");
      request.send(file);
    });
    show("upload", `${request.status || "Failed"} ${request.statusText}`, `POST /upload · ${took(began)}`, request.responseText);
  },

  async squares() {
    const stop = card("squares").querySelector("[name=stop]");
    const began = performance.now();
    hangUp = new AbortController();
    stop.disabled = false;
    try {
      const answer = await fetch("/squares", { signal: hangUp.signal, cache: "no-store" });
      let text = "";
      let pieces = 0;
      for (const reader = answer.body.getReader(), decoder = new TextDecoder(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += decoder.decode(value, { stream: true });
        pieces += 1;
        show("squares", `${answer.status} ${answer.statusText}`, `${pieces} pieces in ${took(began)}`, text);
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      show("squares", "Hung up", "the handler sees it: res.aborted is true", card("squares").querySelector(".body").textContent);
    } finally {
      stop.disabled = true;
    }
  },

  async wait() {
    const began = performance.now();
    const texts = await Promise.all(Array.from({ length: 6 }, async (_, index) => {
      const answer = await fetch(`/wait?${index}`, { cache: "no-store" });
      return `after ${took(began)}: ${await answer.text()}`;
    }));
    show("wait", "200 OK × 6", `all of them in ${took(began)}`, texts.join("\n"));
  },

  async chat(form) {
    const began = performance.now();
    const url = new URL("chat/rooms/lobby?name=The+demo", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    let text = "";
    const told = await new Promise((done) => {
      socket.onopen = () => socket.send(form.get("text"));
      socket.onmessage = ({ data }) => {
        text += `${data}\n`;
        if (JSON.parse(data).type === "message") done(true);
      };
      socket.onclose = () => done(false);
    });
    socket.close(1000);
    show("chat", told ? "101 Switching Protocols" : "Closed", `${url.pathname} · ${took(began)}`, text);
  },

  async constant() {
    const began = performance.now();
    let answer;
    let body;
    for (let count = 0; count < 100; count += 1) {
      answer = await fetch("/health", { cache: "no-store" });
      body = await answer.text();
    }
    const each = ((performance.now() - began) / 100).toFixed(2);
    show("constant", `${answer.status} ${answer.statusText}`, `${each} ms each, this browser's share included`, body);
  },

  async static(form, button) {
    const headers = {};
    if (button === "again") headers["If-None-Match"] = tag ?? "";
    if (button === "range") headers.Range = "bytes=4-18";
    const answer = await ask("static", "/note.txt", { headers });
    tag = answer.headers.get("ETag") ?? tag;
  },

  fail: () => ask("fail", "/fail"),
};

/** Python in three colours. */
function colour(code) {
  const pattern = /(#.*$|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|\b(async|await|def|for|if|in|is|not|or|and|else|return|raise|nonlocal|try|except|None|True|False)\b|\b(\d[\d_.]*)\b/gm;
  const escape = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);
  let html = "";
  let last = 0;
  for (const match of code.matchAll(pattern)) {
    const kind = match[1] ? "s" : match[2] ? "k" : "n";
    html += `${escape(code.slice(last, match.index))}<span class="${kind}">${escape(match[0])}</span>`;
    last = match.index + match[0].length;
  }
  return html + escape(code.slice(last));
}

for (const section of document.querySelectorAll("[data-card]")) {
  const name = section.dataset.card;
  section.append(document.getElementById("result").content.cloneNode(true));
  const form = section.querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = form.querySelectorAll("button:not([type=button])");
    const values = new FormData(form);
    buttons.forEach((button) => { button.disabled = true; });
    try {
      await actions[name](values, event.submitter?.name ?? "");
    } catch (error) {
      show(name, "Failed", String(error), "");
    }
    buttons.forEach((button) => { button.disabled = false; });
  });
}

card("squares").querySelector("[name=stop]").addEventListener("click", () => hangUp?.abort());

const root = document.documentElement;
const chosen = localStorage.getItem("theme");
if (chosen) root.dataset.theme = chosen;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});

/** Fills in what the server knows best: the versions, and the lines behind each card. */
async function introduce() {
  const { versions, sources } = await (await fetch("/about")).json();
  document.getElementById("versions").textContent = versions;
  for (const [name, code] of Object.entries(sources)) {
    card(name).querySelector(".code code").innerHTML = colour(code);
  }
}

introduce();
