"use strict";
// Values under the pointer. The drawn points are turned back into values with the ranges that
// stand on each chart, so that the page holds its data once.
const REACH = 12; // how far from the pointer a point still answers, in units of the view box

for (const svg of document.querySelectorAll("svg.chart[data-x]")) {
  const [x, y] = [scale(svg.dataset.x), scale(svg.dataset.y)];
  const [hit, cursor] = [svg.querySelector(".hit"), svg.querySelector(".cursor")];
  const xLabel = svg.querySelector(".label").textContent;
  const series = [...svg.querySelectorAll(".series")].map((group) => ({
    label: group.dataset.name,
    color: group.style.getPropertyValue("--c"),
    points: points(group),
  }));
  const figure = svg.closest("figure");
  const tooltip = figure.appendChild(document.createElement("div"));
  tooltip.className = "tooltip";
  tooltip.hidden = true;

  hit.addEventListener("pointerleave", () => show(false));
  hit.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    const all = series.map((line) => nearest(line.points, at.x));
    const chosen = all.reduce((a, b) => (distance(b, at.x) < distance(a, at.x) ? b : a), null);
    if (!chosen) return;
    const rows = series
      .map((line, i) => ({ ...line, point: all[i] }))
      .filter((line) => distance(line.point, chosen.x) < REACH);
    fill(tooltip, `${xLabel} ${round(x(chosen.x), 4)}`, rows, y);
    cursor.setAttribute("x1", chosen.x);
    cursor.setAttribute("x2", chosen.x);
    show(true);
    const box = figure.getBoundingClientRect();
    const left = event.clientX - box.left + 16;
    const width = tooltip.offsetWidth;
    tooltip.style.left = `${left + width > box.width ? left - width - 32 : left}px`;
    tooltip.style.top = `${event.clientY - box.top - tooltip.offsetHeight - 10}px`;
  });

  function show(visible) {
    tooltip.hidden = !visible;
    cursor.style.visibility = visible ? "visible" : "hidden";
  }
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});

function scale(text) {
  const [low, high, start, end] = text.split(",").map(Number);
  return (pixel) => low + ((pixel - start) / (end - start)) * (high - low);
}

function points(group) {
  const lines = [...group.querySelectorAll("polyline")].flatMap((line) =>
    [...line.points].map((point) => ({ x: point.x, y: point.y })));
  const dots = [...group.querySelectorAll("circle")].map((dot) =>
    ({ x: dot.cx.baseVal.value, y: dot.cy.baseVal.value }));
  return [...lines, ...dots];
}

function nearest(candidates, x) {
  return candidates.reduce((a, b) => (distance(b, x) < distance(a, x) ? b : a), null);
}

function distance(point, x) {
  return point ? Math.abs(point.x - x) : Infinity;
}

function fill(tooltip, title, rows, y) {
  const head = document.createElement("p");
  head.textContent = title;
  const lines = rows.map(({ label, color, point }) => {
    const [line, name, value] = ["div", "span", "b"].map((tag) => document.createElement(tag));
    name.textContent = label;
    name.style.setProperty("--c", color);
    value.textContent = round(y(point.y), 3);
    line.append(name, value);
    return line;
  });
  tooltip.replaceChildren(head, ...lines);
}

function round(value, digits) {
  return Math.abs(value) >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(digits)));
}
