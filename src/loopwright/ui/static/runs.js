// The table of runs: completion of filters, more rows on scrolling, choosing rows, saved views.
"use strict";
(() => {
  const OPERATORS = ["=", "!=", ">", ">=", "<", "<=", "LIKE '%'", "ILIKE '%'", "IN ('')", "IS NULL", "IS NOT NULL"];
  const MOST_ROWS = 5000;
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // Completion. What is typed decides what is offered: a name, an operator, a value, or AND.
  const TOKEN = /\s*(?:(`[^`]*`|"(?:[^"]|"")*"|'(?:[^']|'')*'|[^\s=<>!,()'"`]+(?:`[^`]*`?)?)|(!=|<=|>=|[=<>])|(\(|\)|,))/g;
  const situation = (text) => {
    const partial = /[^\s=<>!(),]*$/.exec(text)[0];
    const quoted = /(?:^|[\s(=<>,])('[^']*)$/.exec(text);
    const typed = quoted ? quoted[1] : partial;
    const before = text.slice(0, text.length - typed.length);
    const tokens = [...before.matchAll(TOKEN)].map((found) => found[0].trim());
    const from = tokens.map((token) => token.toUpperCase()).lastIndexOf("AND") + 1;
    const clause = tokens.slice(from);
    return { typed, before, clause };
  };
  const offers = (words, text) => {
    const { typed, before, clause } = situation(text);
    const fits = (options) => {
      const sought = typed.toLowerCase().replace(/^'/, "");
      const starts = options.filter((option) => option.toLowerCase().replace(/^'/, "").startsWith(sought));
      const holds = options.filter((option) => !starts.includes(option) && option.toLowerCase().includes(sought));
      return [...starts, ...holds].filter((option) => option !== typed).slice(0, 12);
    };
    const wrap = (options) => fits(options).map((option) => ({ option, text: `${before}${option} ` }));
    if (clause.length === 0) return wrap(words.identifiers);
    const [name, operator] = clause;
    const number = words.numbers.includes(name);
    if (clause.length === 1) {
      return wrap(OPERATORS.filter((sign) => number ? !/LIKE|IN /.test(sign) : !/[<>]/.test(sign)));
    }
    if (/^is$/i.test(operator)) return clause.length < 3 ? [] : wrap(["AND"]);
    if (clause.length === 2 && !/^(in|not|like|ilike)$/i.test(operator)) {
      return number ? [] : wrap((words.values[name] ?? []).map((value) => `'${value.replaceAll("'", "''")}'`));
    }
    return clause.length >= 3 && clause.at(-1) !== "(" && clause.at(-1) !== "," ? wrap(["AND"]) : [];
  };
  const known = new Map();
  const wordsOf = (input) => {
    const experiment = input.form.elements.experiment?.value ?? "";
    const path = `${input.dataset.complete}?experiment=${encodeURIComponent(experiment)}`;
    if (!known.has(path)) known.set(path, fetch(path).then((answer) => answer.ok ? answer.json() : null).catch(() => null));
    return known.get(path);
  };
  const close = (input) => { input.parentElement.querySelector(".offers")?.remove(); input.removeAttribute("aria-activedescendant"); };
  const take = (input, offer) => {
    input.value = offer.text;
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
    suggest(input);
  };
  const suggest = async (input) => {
    const words = await wordsOf(input);
    close(input);
    if (!words || document.activeElement !== input || input.selectionStart !== input.value.length) return;
    const found = offers(words, input.value);
    if (!found.length) return;
    const list = element("ul", { className: "offers", role: "listbox", id: "offers" });
    found.forEach((offer, number) => {
      const item = element("li", { textContent: offer.option, role: "option", id: `offer-${number}` });
      item.addEventListener("pointerdown", (event) => { event.preventDefault(); take(input, offer); });
      item.offer = offer;
      list.append(item);
    });
    input.setAttribute("aria-controls", "offers");
    input.after(list);
  };
  const steer = (event) => {
    const input = event.target;
    const items = [...input.parentElement.querySelectorAll(".offers li")];
    const at = items.findIndex((item) => item.ariaSelected === "true");
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move && items.length) {
      event.preventDefault();
      items[at] && (items[at].ariaSelected = "false");
      const next = items[at < 0 && move < 0 ? items.length - 1 : (at + move + items.length) % items.length];
      next.ariaSelected = "true";
      next.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", next.id);
    } else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) {
      event.preventDefault();
      take(input, items[at].offer);
    } else if (event.key === "Escape") close(input);
  };
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-complete]")) suggest(event.target);
    if (event.target.matches("[data-narrow]")) narrow(event.target);
  });
  document.addEventListener("focusin", (event) => event.target.matches("[data-complete]") && suggest(event.target));
  document.addEventListener("focusout", (event) => event.target.matches("[data-complete]") && close(event.target));
  document.addEventListener("keydown", (event) => event.target.matches?.("[data-complete]") && steer(event));

  // The column picker: narrow the list; the usual columns leave the address short.
  const narrow = (input) => {
    for (const choice of input.closest(".panel").querySelectorAll(".choice")) {
      choice.hidden = !choice.textContent.toLowerCase().includes(input.value.toLowerCase());
    }
  };
  const usualColumns = (form) => [...form.querySelectorAll("input[name=column]")].every((box) =>
    "usual" in box.dataset && box.checked === box.defaultChecked);
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches(".filters")) return;
    if (usualColumns(form)) form.querySelectorAll("input[name=column]").forEach((box) => { box.disabled = true; });
    for (const field of form.querySelectorAll("input[name], select[name]")) if (field.value === "") field.disabled = true;
    form.querySelectorAll("[data-view-name], [data-narrow]").forEach((field) => { field.disabled = true; });
  });
  window.addEventListener("pageshow", () => document.querySelectorAll(".filters :disabled").forEach((field) => { field.disabled = false; }));

  // More rows on scrolling; they are kept until the page is left, so the page is then not refreshed by itself.
  let extended = false;
  const more = async (link) => {
    if (link.dataset.busy) return;
    link.dataset.busy = "1";
    const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const here = document.querySelector("table.runs tbody");
    const rows = next.querySelectorAll("table.runs tbody tr");
    extended = true;
    here.append(...rows);
    const following = next.querySelector("[data-more]");
    if (following && here.rows.length < MOST_ROWS) { link.href = following.getAttribute("href"); delete link.dataset.busy; }
    else if (following) { link.href = following.getAttribute("href"); link.removeAttribute("data-more"); }
    else link.remove();
    count();
  };
  const watcher = new IntersectionObserver((entries) => {
    const link = document.querySelector("[data-more]");
    if (link && entries.some((entry) => entry.isIntersecting)) more(link).then(watch);
  }, { rootMargin: "600px" });
  const watch = () => {
    watcher.disconnect();
    document.querySelectorAll("[data-end]").forEach((end) => watcher.observe(end));
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-more]");
    if (link) { event.preventDefault(); more(link).then(watch); }
  });
  document.addEventListener("loopwright:stale", (event) => {
    if (!extended) return;
    event.preventDefault();
    const pulse = document.querySelector("[data-pulse]");
    if (pulse) { pulse.textContent = "changed: reload"; pulse.onclick = () => window.location.reload(); }
  });

  // Choosing rows.
  let last = null;
  const boxes = () => [...document.querySelectorAll("[data-selection] input[name=run]")];
  const count = () => {
    const chosen = boxes().filter((box) => box.checked).length;
    const button = document.querySelector("[data-count]");
    if (!button) return;
    button.textContent = chosen ? String(chosen) : "";
    button.closest("button").disabled = chosen < 2 || chosen > 100;
    document.querySelector("[data-shown]").textContent =
      `${boxes().length} runs shown${chosen ? `, ${chosen} chosen` : ""}${chosen > 100 ? " (at most 100 can be compared)" : ""}`;
  };
  document.addEventListener("click", (event) => {
    const box = event.target;
    if (!box.matches?.("[data-selection] input[type=checkbox]")) return;
    if (box.matches("[data-all]")) boxes().forEach((other) => { other.checked = box.checked; });
    else if (event.shiftKey && last?.isConnected) {
      const all = boxes(), [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
      all.slice(from, to + 1).forEach((other) => { other.checked = box.checked; });
    }
    if (!box.matches("[data-all]")) last = box;
    count();
  });

  // Saved views: with the experiment on the server, else in this browser.
  const STORE = () => `loopwright.views.${window.Loopwright.meta("project")}`;
  const kept = () => JSON.parse(window.localStorage.getItem(STORE()) ?? "{}");
  const keepOwn = (views) => window.localStorage.setItem(STORE(), JSON.stringify(views));
  const showOwn = () => {
    const place = document.querySelector("[data-own-views]");
    if (!place || place.closest("[data-views]").dataset.experiment) return;
    place.replaceChildren(...Object.entries(kept()).map(([name, query]) => {
      const forget = element("button", { type: "button", className: "button danger", textContent: "Forget" });
      forget.onclick = () => { const views = kept(); delete views[name]; keepOwn(views); showOwn(); };
      return element("p", { className: "kept" }, element("a", { href: `?${query.replace(/^\?/, "")}`, textContent: name }), forget);
    }));
  };
  const saveView = async (button) => {
    const panel = button.closest("[data-views]"), name = panel.querySelector("[data-view-name]").value.trim();
    const query = new URLSearchParams(window.location.search);
    query.delete("after");
    if (!name) return;
    const { experiment } = panel.dataset;
    try {
      if (!experiment) { keepOwn({ ...kept(), [name]: query.toString() }); showOwn(); return; }
      await window.Loopwright.ask("/api/v1/experiments/set_tag", { experiment, key: `loopwright.view.${name}`, value: query.toString() });
      window.location.reload();
    } catch (error) { window.alert(error.message); }
  };
  document.addEventListener("click", (event) => event.target.matches?.("[data-save-view]") && saveView(event.target));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches?.("[data-view-name]")) return;
    event.preventDefault();
    saveView(event.target.closest("[data-views]").querySelector("[data-save-view]"));
  });
  document.addEventListener("change", (event) => event.target.matches?.("[data-submit]") && event.target.form.requestSubmit());
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });

  const begin = () => { watch(); count(); showOwn(); };
  document.addEventListener("loopwright:refreshed", begin);
  document.addEventListener("DOMContentLoaded", begin);
})();
