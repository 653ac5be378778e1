"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const setTheme = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    theme.textContent = dark ? "Light theme" : "Dark theme";
  };
  setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches);
  theme.hidden = false;
  theme.addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));

  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  for (const dose of document.querySelectorAll(".dose")) {
    const input = dose.querySelector("input");
    const output = dose.querySelector("output");
    const words = input.dataset.words.split("|");
    const show = () => {
      for (const step of dose.querySelectorAll(".step")) step.hidden = step.dataset.step !== input.value;
      output.textContent = words[input.value];
      input.setAttribute("aria-valuetext", words[input.value]);
    };
    dose.querySelector(".slider").hidden = false;
    input.addEventListener("input", show);
    show();
  }

  const choice = document.getElementById("group-choice");
  if (!choice) return;
  const groups = [...document.querySelectorAll(".group")];
  const showGroup = (id) => {
    if (!groups.some((group) => group.id === id)) return;
    for (const group of groups) group.hidden = group.id !== id;
    choice.value = id;
  };
  const move = (by) => {
    const n = groups.length;
    showGroup(groups[(choice.selectedIndex + by + n) % n].id);
  };
  choice.closest(".chooser").hidden = groups.length < 2;
  choice.addEventListener("change", () => showGroup(choice.value));
  document.getElementById("previous").addEventListener("click", () => move(-1));
  document.getElementById("next").addEventListener("click", () => move(1));
  const follow = () => showGroup(location.hash.slice(1));
  for (const link of document.querySelectorAll('.claim a[href^="#group-"]')) {
    link.addEventListener("click", () => showGroup(link.hash.slice(1)));
  }
  window.addEventListener("hashchange", follow);
  if (groups.length) showGroup(groups[0].id);
  follow();
})();
