// Sounds: fetched as files and played by the page itself, with a picture of them.
"use strict";
(() => {
  const wire = (place) => {
    const button = place.querySelector("[data-play]"), canvas = place.querySelector("canvas");
    let sound = null, player = null, context = null;
    const load = async () => {
      const answer = await fetch(place.dataset.sound);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      context = new AudioContext();
      sound = await context.decodeAudioData(await answer.arrayBuffer());
      place.querySelector("[data-length]").textContent =
        `${sound.duration.toFixed(2)} s, ${sound.sampleRate} Hz, ${sound.numberOfChannels === 1 ? "mono" : `${sound.numberOfChannels} channels`}`;
      paint(canvas, sound.getChannelData(0));
    };
    const stop = () => { player?.stop(); player = null; button.textContent = "Play"; };
    button.onclick = async () => {
      if (player) { stop(); return; }
      await context.resume();
      player = context.createBufferSource();
      player.buffer = sound;
      player.connect(context.destination);
      player.onended = () => { player = null; button.textContent = "Play"; };
      player.start();
      button.textContent = "Stop";
    };
    load().catch((error) => {
      button.disabled = true;
      place.querySelector("[data-length]").textContent = `This browser cannot play it: ${error.message}. Download it instead.`;
    });
  };
  const paint = (canvas, samples) => {
    const pen = canvas.getContext("2d"), { width, height } = canvas;
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = window.Loopwright.colour("--c1");
    const stretch = samples.length / width;
    for (let column = 0; column < width; column += 1) {
      let low = 1, high = -1;
      for (let at = Math.floor(column * stretch); at < Math.min(samples.length, (column + 1) * stretch); at += 1) {
        low = Math.min(low, samples[at]);
        high = Math.max(high, samples[at]);
      }
      pen.fillRect(column, (1 - high) * height / 2, 1, Math.max(1, (high - low) * height / 2));
    }
  };
  const begin = () => document.querySelectorAll("[data-sound]").forEach(wire);
  document.addEventListener("DOMContentLoaded", begin);
  document.addEventListener("loopwright:refreshed", begin);
})();
