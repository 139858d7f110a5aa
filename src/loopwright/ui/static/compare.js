// Parallel coordinates: drag along an axis to keep the runs that pass through a range of it.
"use strict";
(() => {
  const wire = (figure) => {
    const picture = figure.querySelector("svg"), told = figure.querySelector("[data-tell]");
    const lines = [...picture.querySelectorAll(".line")].map((line) => ({ line, ys: line.dataset.ys.split(" ").map(Number) }));
    const ranges = new Map();
    const usual = told.textContent;
    const place = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse()).y;
    const narrow = () => {
      let kept = 0;
      for (const { line, ys } of lines) {
        const inside = [...ranges].every(([axis, [low, high]]) => ys[axis] >= low && ys[axis] <= high);
        line.classList.toggle("out", !inside);
        kept += inside;
      }
      told.textContent = ranges.size ? `${kept} of ${lines.length} runs kept` : usual;
    };
    for (const axis of picture.querySelectorAll(".axis")) {
      const number = Number(axis.dataset.axis), brush = axis.querySelector(".brush"), grip = axis.querySelector(".grip");
      let from = null;
      grip.addEventListener("pointerdown", (event) => { from = place(event); grip.setPointerCapture(event.pointerId); event.preventDefault(); });
      grip.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const [low, high] = [from, place(event)].sort((a, b) => a - b);
        brush.setAttribute("y", low);
        brush.setAttribute("height", high - low);
      });
      grip.addEventListener("pointerup", (event) => {
        const [low, high] = [from, place(event)].sort((a, b) => a - b);
        from = null;
        if (high - low < 3) { ranges.delete(number); brush.setAttribute("height", 0); }
        else ranges.set(number, [low, high]);
        narrow();
      });
    }
    picture.addEventListener("pointerover", (event) => {
      const line = event.target.closest(".line");
      if (line) told.textContent = line.dataset.told;
    });
  };
  const begin = () => document.querySelectorAll("[data-parallel]").forEach(wire);
  document.addEventListener("DOMContentLoaded", begin);
  document.addEventListener("loopwright:refreshed", begin);
  document.addEventListener("change", (event) => event.target.matches?.("[data-submit]") && event.target.form.requestSubmit());
})();
