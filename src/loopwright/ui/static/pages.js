// Figures, live refresh, and buttons. Without this script every page can still be read.
"use strict";
(() => {
  const script = document.currentScript;
  const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Figures: the server sends data and layout; colours come from the style sheet.
  let plotly = null;
  const loadPlotly = () => plotly ??= new Promise((resolve, reject) => {
    const path = script.dataset.plotly || document.querySelector("script[data-plotly]")?.dataset.plotly;
    if (!path) { reject(new Error("no figures on this page")); return; }
    const tag = document.createElement("script");
    tag.src = path;
    tag.onload = () => resolve(window.Plotly);
    tag.onerror = reject;
    document.head.append(tag);
  });
  const themed = (layout) => {
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line") };
    const result = {
      ...layout,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--faint"), activecolor: colour("--accent") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--faint") },
      colorway: ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"].map(colour),
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } },
    };
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      result[key] = { ...axis, ...layout[key] };
    }
    return result;
  };
  const tinted = (name) => { // "--c1@0.2" is the first colour, nearly transparent
    const [plain, alpha] = name.split("@"), found = colour(plain);
    return alpha && /^#[0-9a-f]{6}$/i.test(found) ? found + Math.round(Number(alpha) * 255).toString(16).padStart(2, "0") : found;
  };
  const resolved = (value) => {
    if (typeof value === "string" && value.startsWith("--")) return tinted(value);
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    return value;
  };
  const show = async (place, figure, library) => {
    const shaped = window.Loopwright.shape?.(place, figure) ?? figure;
    const { data, layout } = resolved(shaped);
    await (library ?? await loadPlotly()).react(place, data, themed(layout), { displaylogo: false, responsive: true,
      displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendDataToCloud", "sendChartToCloud"] });
    place.dispatchEvent(new CustomEvent("loopwright:drawn", { bubbles: true }));
  };
  const draw = async () => {
    const places = [...document.querySelectorAll("[data-figure]")];
    if (!places.length) return;
    const library = await loadPlotly();
    for (const place of places) {
      const source = document.querySelector(`script[data-figure-of="${CSS.escape(place.dataset.figure)}"]`);
      if (source?.textContent.trim()) await show(place, JSON.parse(source.textContent), library);
    }
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
  };

  // Buttons ask one operation of the API, with the CSRF header that pages of other sites cannot send.
  const ask = async (path, values) => {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Loopwright-CSRF": meta("csrf"), "Loopwright-Project": meta("project") },
      body: JSON.stringify(values),
    });
    if (answer.ok) return answer.json();
    const told = (await answer.json()).error;
    throw new Error([told.message, told.next_step].filter(Boolean).join("\n"));
  };
  const wire = () => {
    for (const button of document.querySelectorAll("button[data-operation]")) {
      button.hidden = false;
      button.onclick = async () => {
        if (button.dataset.question && !window.confirm(button.dataset.question)) return;
        button.disabled = true;
        try {
          await ask(`/api/v1/${button.dataset.operation.replace(".", "/")}`, JSON.parse(button.dataset.values));
          button.closest("[data-keep-node]")?.removeAttribute("data-keep-node");
          await refresh();
        } catch (error) { window.alert(error.message); }
        button.disabled = false;
      };
    }
    for (const button of document.querySelectorAll("button[data-sign-out]")) {
      button.hidden = false;
      button.onclick = async () => { await ask("/logout", {}); window.location.assign("/login"); };
    }
  };

  // Live: when an event of the page's kinds comes, the page is fetched again and its content replaced.
  let busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    if (!document.dispatchEvent(new CustomEvent("loopwright:stale", { cancelable: true }))) return;
    busy = true;
    try {
      const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("content");
      const present = document.getElementById("content");
      for (const open of present.querySelectorAll("details[open][data-keep]")) {
        fresh.querySelector(`details[data-keep="${CSS.escape(open.dataset.keep)}"]`)?.setAttribute("open", "");
      }
      for (const plot of present.querySelectorAll(".plot")) {
        const next = fresh.querySelector(`[data-figure="${CSS.escape(plot.dataset.figure)}"]`);
        if (next) next.replaceWith(plot); // keep the drawing; only its data change
      }
      const focused = document.activeElement;
      keep(present, fresh);
      present.replaceChildren(...fresh.childNodes);
      if (focused?.isConnected) focused.focus({ preventScroll: true });
      wire(); shine();
      document.dispatchEvent(new CustomEvent("loopwright:refreshed"));
      await draw();
    } finally {
      busy = false;
      if (again) { again = false; refresh(); }
    }
  };
  // What a person is about to do stays: forms half filled in, chosen rows.
  const keep = (present, fresh) => {
    for (const box of present.querySelectorAll("input[type=checkbox][name=run]:checked")) {
      const next = fresh.querySelector(`input[name=run][value="${CSS.escape(box.value)}"]`);
      if (next) next.checked = true;
    }
    for (const node of present.querySelectorAll("[data-keep-node]")) {
      fresh.querySelector(`[data-keep-node="${CSS.escape(node.dataset.keepNode)}"]`)?.replaceWith(node);
    }
  };
  let connected = false;
  const shine = () => {
    for (const mark of document.querySelectorAll("[data-pulse]")) {
      mark.hidden = false;
      mark.classList.toggle("lost", !connected);
    }
  };
  const follow = () => {
    const content = document.getElementById("content");
    const nouns = new Set((content.dataset.live ?? "").split(" ").filter(Boolean));
    if (content.dataset.poll) setInterval(() => document.hidden || busy || refresh(), Number(content.dataset.poll) * 1000);
    if (!nouns.size || !window.EventSource) return;
    let timer = null;
    const source = new EventSource(`/api/v1/events/stream?project=${encodeURIComponent(meta("project"))}`);
    source.onopen = () => { connected = true; shine(); };
    source.onerror = () => { connected = false; shine(); };
    source.onmessage = (message) => {
      const noun = JSON.parse(message.data).kind.split(".")[0];
      if (!nouns.has(noun) && !nouns.has("*")) return;
      timer ??= setTimeout(() => { timer = null; refresh(); }, 700);
    };
    window.addEventListener("pagehide", () => source.close());
  };
  Object.assign(window.Loopwright ??= {}, { ask, refresh, draw, show, colour, meta });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
  wire();
  draw().catch(() => document.documentElement.classList.add("plain"));
  follow();
})();
