// Plays one word, then stops; marks the word that is being played. Runs once for the element, whose content changes.
let until = null;
const player = () => element.querySelector("audio");

element.addEventListener("click", (event) => {
  const word = event.target.closest("button[data-start]");
  if (!word || !player()) return;
  player().currentTime = Number(word.dataset.start);
  until = Number(word.dataset.end);
  player().play();
});

// Events of media do not bubble, but they are captured.
element.addEventListener("timeupdate", () => {
  const now = player().currentTime;
  for (const word of element.querySelectorAll("button[data-start]"))
    word.classList.toggle("playing", now >= Number(word.dataset.start) && now < Number(word.dataset.end));
  if (until !== null && now >= until) {
    player().pause();
    until = null;
  }
}, true);
element.addEventListener("seeking", () => { if (player().paused) until = null; }, true);
