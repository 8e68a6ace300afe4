// Plays one word, then stops; marks the word that is being played. Runs once for the element, whose content changes.
let until = null;
const player = () => element.querySelector("audio");

// Events of the time come four times a second only, which is longer than a word.
const follow = () => {
  const audio = player();
  if (!audio) return;
  const now = audio.currentTime;
  for (const word of element.querySelectorAll("button[data-start]"))
    word.classList.toggle("playing", !audio.paused && now >= Number(word.dataset.start) && now < Number(word.dataset.end));
  if (until !== null && now >= until) {
    audio.pause();
    until = null;
  }
  if (!audio.paused) requestAnimationFrame(follow);
};

element.addEventListener("click", (event) => {
  const word = event.target.closest("button[data-start]");
  if (!word || !player()) return;
  player().currentTime = Number(word.dataset.start);
  until = Number(word.dataset.end);
  player().play();
});
// Events of media do not bubble, but they are captured.
element.addEventListener("play", () => requestAnimationFrame(follow), true);
element.addEventListener("pause", () => { until = null; requestAnimationFrame(follow); }, true);
