// Sets the theme before anything is painted. Kept outside the bundle on purpose: it must block.
(() => {
  let wish = null;
  try {
    wish = localStorage.getItem("sonde.theme");
  } catch {
    // Storage may be forbidden; then the system decides.
  }
  const light = wish === "light" || (wish !== "dark" && matchMedia("(prefers-color-scheme: light)").matches);
  document.documentElement.dataset.theme = light ? "light" : "dark";
})();
