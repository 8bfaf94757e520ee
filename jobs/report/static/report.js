"use strict";
// Draws the charts of a page, in the colours of the reader's scheme; what a chart shows stands in the page itself.
function drawCharts() {
  const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(name).trim();
  const axis = {gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true};
  for (const holder of document.querySelectorAll(".chart")) {
    const {data, layout} = JSON.parse(document.getElementById(holder.dataset.figure).textContent);
    const styled = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 50, r: 15, t: 30, b: 45},
      font: {color: colour("--ink"), family: style.fontFamily, size: 12}, legend: {orientation: "h", y: -0.2},
      colorway: ["#4c8fd6", "#e08e45", "#55a868", "#b07cc6", "#c44e52", "#8a8f98", "#3aa6a0", "#c7a93f"], ...layout,
    };
    for (const name of Object.keys(layout).concat("xaxis", "yaxis").filter(name => /^[xy]axis\d*$/.test(name)))
      styled[name] = {...axis, ...layout[name]};
    for (const shape of styled.shapes || []) shape.line = {...shape.line, color: colour("--bad")};
    Plotly.react(holder, data, styled, {displaylogo: false, responsive: true, displayModeBar: false});
  }
}
if (document.querySelector(".chart")) {
  drawCharts();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
}
