// Curves of metrics: smoothing, axes, a closer look on zooming, and figures that come when they are in sight.
"use strict";
(() => {
  const state = { smooth: 0, x: "step", logx: false, logy: false, band: true, find: "" };
  const WAYS = ["step", "relative", "time"];
  const number = (value) => Number.isFinite(value) ? value : 0;

  // Exponential moving average, corrected for its start, as TensorBoard draws it; gaps stay gaps.
  const smoothed = (values, weight) => {
    let mean = 0, mass = 0;
    return values.map((value) => {
      if (value === null || !Number.isFinite(value)) return null;
      mean = weight * mean + (1 - weight) * value;
      mass = weight * mass + (1 - weight);
      return mean / mass;
    });
  };
  const placed = (trace) => {
    if (state.x === "step" || !trace.customdata) return trace.x;
    if (state.x === "time") return trace.customdata.map((at) => new Date(at).toISOString());
    return trace.customdata.map((at) => (at - trace.meta.began_ms) / 1000);
  };
  const lines = (trace) => {
    const x = placed(trace), weight = Math.min(0.99, Math.max(0, number(state.smooth)));
    if (trace.meta.role !== "line" || weight === 0) return [{ ...trace, x }];
    const faint = { ...trace, x, mode: "lines", opacity: 0.3, hoverinfo: "skip", hovertemplate: undefined, showlegend: false, line: { ...trace.line, width: 1 } };
    const text = trace.y.map((value, at) => ` (as logged ${value === null ? "–" : Number(value.toPrecision(5))}${(trace.text[at] ?? "").replace(/^ \(/, ", ").replace(/\)$/, "")})`);
    return [faint, { ...trace, x, y: smoothed(trace.y, weight), text, mode: "lines" }];
  };
  const titles = { step: "step", relative: "seconds since the start", time: "" };
  const shape = (place, figure) => {
    if (!place.closest(".chart")) return null;
    const data = figure.data.filter((trace) => state.band || trace.meta.role === "line").flatMap(lines);
    const xaxis = { ...figure.layout.xaxis, title: { text: titles[state.x] } };
    if (state.x === "time") xaxis.type = "date";
    else if (state.logx) xaxis.type = "log";
    if (place.zoom) xaxis.range = place.zoom;
    const yaxis = { ...figure.layout.yaxis, ...(state.logy ? { type: "log" } : {}) };
    return { data, layout: { ...figure.layout, xaxis, yaxis } };
  };
  Object.assign(window.Loopwright ??= {}, { shape });

  // Figures: from the page where it has them, else from the server once.
  const embedded = (place) => {
    const source = document.querySelector(`script[data-figure-of="${CSS.escape(place.dataset.figure)}"]`);
    return source?.textContent.trim() ? JSON.parse(source.textContent) : null;
  };
  const figureOf = (place) => embedded(place) ?? place.figure;
  const ask = async (place, more = "") => {
    const answer = await fetch(place.dataset.url + more);
    if (!answer.ok) throw new Error(`${answer.status} for ${place.dataset.url}`);
    return (await answer.json()).figure;
  };
  const bound = new WeakSet();
  const bind = (place) => {
    if (bound.has(place)) return;
    bound.add(place);
    place.on("plotly_relayout", (change) => zoom(place, change));
  };
  const zoom = async (place, change) => {
    const [first, last] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (change["xaxis.autorange"]) {
      place.zoom = null;
      await window.Loopwright.show(place, figureOf(place));
    } else if (first !== undefined && state.x === "step" && !state.logx) {
      const margin = (last - first) * 0.05, wanted = place.zoom = [first, last];
      const closer = await ask(place, `&first=${Math.floor(first - margin)}&last=${Math.ceil(last + margin)}`);
      if (place.zoom === wanted) await window.Loopwright.show(place, closer);
    }
  };
  const redraw = async () => {
    for (const place of document.querySelectorAll(".chart .plot")) {
      const figure = figureOf(place);
      place.zoom = null;
      if (figure) await window.Loopwright.show(place, figure);
    }
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      ask(target).then((figure) => { target.figure = figure; return window.Loopwright.show(target, figure); }).catch(() => {});
    }
  }, { rootMargin: "300px" });
  const look = () => document.querySelectorAll(".chart [data-lazy]").forEach((place) => seen.observe(place));

  // The bar. What it says is part of the address, so that it can be sent to a colleague.
  const controls = () => [...document.querySelectorAll("[data-chart]")];
  const read = () => {
    const query = new URLSearchParams(window.location.search);
    state.smooth = number(Number(query.get("smooth") ?? 0));
    state.x = WAYS.includes(query.get("x")) ? query.get("x") : "step";
    for (const name of ["logx", "logy"]) state[name] = query.get(name) === "1";
    state.band = query.get("band") !== "0";
    state.find = query.get("find") ?? "";
    for (const control of controls()) {
      if (control.type === "checkbox") control.checked = state[control.dataset.chart];
      else control.value = state[control.dataset.chart];
    }
  };
  const write = () => {
    const query = new URLSearchParams(window.location.search);
    const plain = { smooth: 0, x: "step", logx: false, logy: false, band: true, find: "" };
    for (const [name, value] of Object.entries(state)) {
      if (value === plain[name]) query.delete(name);
      else query.set(name, value === true ? "1" : value === false ? "0" : String(value));
    }
    window.history.replaceState(null, "", `${window.location.pathname}${query.size ? `?${query}` : ""}${window.location.hash}`);
  };
  const tell = () => document.querySelectorAll("[data-smooth]").forEach((place) => { place.textContent = state.smooth ? state.smooth.toFixed(2) : "off"; });
  const find = () => {
    for (const chart of document.querySelectorAll(".chart")) {
      chart.hidden = !chart.dataset.metric.toLowerCase().includes(state.find.toLowerCase());
    }
    for (const group of document.querySelectorAll("details.group")) group.hidden = !group.querySelector(".chart:not([hidden])");
  };
  let timer = null;
  document.addEventListener("input", (event) => {
    const control = event.target;
    if (!control.dataset?.chart) return;
    const name = control.dataset.chart;
    state[name] = control.type === "checkbox" ? control.checked : control.type === "range" ? Number(control.value) : control.value;
    tell();
    clearTimeout(timer);
    timer = setTimeout(() => { write(); name === "find" ? find() : redraw(); }, name === "smooth" ? 60 : 0);
  });
  document.addEventListener("loopwright:drawn", (event) => event.target.closest(".chart") && bind(event.target));
  document.addEventListener("loopwright:refreshed", () => { look(); find(); });
  document.addEventListener("DOMContentLoaded", () => { read(); tell(); find(); look(); });
  read();
})();
