// A menu closes on Escape, on a click elsewhere, and when the other one opens.
"use strict";

const menus = [...document.querySelectorAll("details.menu")];
const close = (except) => menus.filter((menu) => menu !== except).forEach((menu) => { menu.open = false; });

for (const menu of menus) menu.addEventListener("toggle", () => { if (menu.open) close(menu); });
document.addEventListener("click", (event) => close(event.target.closest("details.menu")));
document.addEventListener("keydown", (event) => {
  const open = menus.find((menu) => menu.open);
  if (event.key !== "Escape" || !open) return;
  close(null);
  open.querySelector("summary").focus();
});
