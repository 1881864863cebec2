// Draws each figure in the colours of the page: when it becomes visible, and anew when the page turns dark or light.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hover = matchMedia("(hover: hover)").matches; // not on a phone, where a finger should scroll the page
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: hover ? "hover" : false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  function paint(spec) {
    const ink = colour("--ink-soft"), rule = colour("--rule"), ground = colour("--ground");
    const { data, layout } = spec;
    Object.assign(layout, {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: ground, bordercolor: rule, font: { color: colour("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: rule, activecolor: ink },
      dragmode: hover ? "zoom" : false,
    });
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = { gridcolor: rule, zerolinecolor: rule, linecolor: rule, ...layout[axis] };
    }
    for (const trace of data) {
      if (trace.type === "heatmap") {
        trace.colorscale = [[0, colour("--cell")], [1, colour("--heat")]];
        trace.textfont = { color: colour("--ink") };
      }
    }
    return spec;
  }

  function draw(place) {
    const { data, layout } = paint(JSON.parse(place.nextElementSibling.textContent));
    place.classList.add("drawn");
    return Plotly.react(place, data, layout, config);
  }

  const visible = (place) => !place.closest("details:not([open])");
  const drawAll = (places) => places.filter(visible).forEach(draw);
  const undrawn = (within) => [...within.querySelectorAll(".drawing:not(.drawn)")];

  drawAll(undrawn(document));
  for (const fold of document.querySelectorAll("details")) {
    fold.addEventListener("toggle", () => fold.open && drawAll(undrawn(fold)));
  }
  dark.addEventListener("change", () => {
    for (const place of document.querySelectorAll(".drawing.drawn")) {
      visible(place) ? draw(place) : place.classList.remove("drawn");
    }
  });
})();
