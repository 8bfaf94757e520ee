"use strict";
// A 360° viewer of a picture and of distances: dapViewer(element, scene).
// scene: {title, picture: data URI, maps: {name: data URI of a KEY.depth.png as dap writes it}}.
// Axes: x forward, y left, z up; yaw 0 looks at the centre column, and turns to the right.

const DAP_MODES = {look: "look around", inside: "points, from within", outside: "points, from outside"};
const DAP_SHARED = `#version 300 es
precision highp float; precision highp int; precision highp usampler2D;
uniform sampler2D picture; uniform usampler2D units; uniform float blend; uniform bool mask, map, flat_;
const float PI = 3.14159265358979;
vec3 turbo(float t) {  // near is warm, far is cool; a polynomial fit by Mikhailov
  vec4 v = vec4(1, t, t * t, t * t * t); vec2 w = v.zw * v.z;
  return vec3(dot(v, vec4(.1357, 4.6154, -42.6603, 132.1311)) + dot(w, vec2(-152.9424, 59.2864)),
              dot(v, vec4(.0914, 2.1942, 4.8430, -14.1850)) + dot(w, vec2(4.2773, 2.8296)),
              dot(v, vec4(.1067, 12.6419, -60.5820, 110.3628)) + dot(w, vec2(-89.9031, 27.3482)));
}
vec3 shade(vec2 uv, uint d) {
  vec3 rgb = texture(picture, uv).rgb;
  if (!map) return rgb;
  float near = 1. - clamp(log(float(d) / 512. / .3) / log(100. / .3), 0., 1.);
  vec3 depth = d == 65535u ? vec3(.15, .15, .19) : d == 0u ? vec3(.5) : clamp(turbo(near), 0., 1.);
  vec3 mixed = mix(rgb, depth, blend);
  return mask && d == 65535u ? mix(mixed, vec3(.85, .2, .75), .6) : mixed;
}`;
const DAP_LOOK = [`
uniform vec2 scale; out vec2 at;
void main() { at = vec2(gl_VertexID % 2, gl_VertexID / 2) * 4. - 1.; gl_Position = vec4(at, 0, 1); }`, `
uniform vec2 scale; uniform mat3 camera; in vec2 at; out vec4 colour;
void main() {
  vec3 ray = normalize(camera * vec3(1, -at.x * scale.x, at.y * scale.y));
  vec2 uv = vec2(.5 - atan(ray.y, ray.x) / (2. * PI), .5 - asin(clamp(ray.z, -1., 1.)) / PI);
  ivec2 size = textureSize(units, 0);
  uint d = texelFetch(units, min(ivec2(uv * vec2(size)), size - 1), 0).r;
  colour = vec4(shade(uv, d), 1);
}`];
const DAP_POINTS = [`
uniform vec2 scale; uniform mat3 camera; uniform vec3 eye; uniform float rows; out vec3 shown; flat out int id;
void main() {
  ivec2 size = textureSize(units, 0), pixel = ivec2(gl_VertexID % size.x, gl_VertexID / size.x);
  vec2 uv = (vec2(pixel) + .5) / vec2(size);
  uint d = texelFetch(units, pixel, 0).r;
  float lon = PI - 2. * PI * uv.x, lat = PI / 2. - PI * uv.y, m = float(d) / 512.;
  vec3 ray = vec3(cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat)), seen = transpose(camera) * (ray * m - eye);
  bool open_ = dot(ray, eye) <= .4 * length(eye);  // from outside, what is turned to the eye is cut away
  bool there = d != 0u && (d != 65535u || mask) && seen.x > .02 && open_;
  gl_Position = there ? vec4(-seen.y / scale.x, seen.z / scale.y, seen.x - .04, seen.x) : vec4(2, 2, 2, 1);
  gl_PointSize = clamp(1.6 * PI / float(size.y) * m / seen.x / scale.y * rows / 2., 1., 64.);
  shown = shade(uv, d); id = gl_VertexID + 1;
}`, `
in vec3 shown; flat in int id; out vec4 colour;
void main() { colour = flat_ ? vec4(id & 255, id >> 8 & 255, id >> 16 & 255, 255) / 255. : vec4(shown, 1); }`];

function dapProgram(gl, sources) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, sources[0]], [gl.FRAGMENT_SHADER, sources[1]]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, DAP_SHARED + text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  return gl.linkProgram(program), program;
}

async function dapUnits(uri) {  // 16-bit gray PNG, one IDAT, filter "up" in every row: units of 1/512 m
  const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), letter => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer), width = view.getUint32(16), height = view.getUint32(20);
  const packed = new Blob([bytes.subarray(41, 41 + view.getUint32(33))]);
  const stream = packed.stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer()), units = new Uint16Array(width * height);
  const step = 2 * width + 1, above = new Uint8Array(2 * width);
  for (let v = 0; v < height; v++) {
    for (let i = 0; i < 2 * width; i++) above[i] += rows[v * step + 1 + i];
    for (let u = 0; u < width; u++) units[v * width + u] = above[2 * u] << 8 | above[2 * u + 1];
  }
  const known = units.filter(unit => unit && unit !== 65535).sort();
  return {width, height, units, middleM: known.length ? known[known.length >> 1] / 512 : 3};
}

function dapViewer(element, scene) {
  const make = (tag, values, ...inside) => {
    const made = Object.assign(document.createElement(tag), values);
    return made.append(...inside), made;
  };
  if (element.release) element.release();
  const names = Object.keys(scene.maps || {});
  const start = {yaw: 0, pitch: 0, fov: 90, away: 2.5, mode: "look", blend: 0, mask: false, map: names[0] || ""};
  const state = {...start};
  const canvas = make("canvas", {tabIndex: 0, role: "application"}), readout = make("output", {className: "distance"});
  canvas.setAttribute("aria-label", `${scene.title}: 360° view. Arrow keys look around, plus and minus zoom, `
    + "B blends, M shows the range mask, V changes the view, Home goes back.");
  const select = pairs => make("select", {}, ...pairs.map(([value, textContent]) => make("option", {value, textContent})));
  const mode = select(Object.entries(DAP_MODES)), map = select(names.map(name => [name, name]));
  const blend = make("input", {type: "range", min: 0, max: 1, step: 0.05, value: 0});
  const mask = make("input", {type: "checkbox"}), reset = make("button", {type: "button", textContent: "reset"});
  const direction = make("output", {className: "direction"});
  const bar = make("div", {className: "viewer-bar"}, make("label", {}, "view ", mode),
    make("label", {}, "picture ", blend, " depth"), make("label", {}, mask, " beyond the range"));
  if (names.length > 1) bar.append(make("label", {}, "map ", map));
  if (!names.length) bar.replaceChildren(make("span", {textContent: "the picture alone: no distances were taken along"}));
  bar.append(reset, direction);
  element.replaceChildren(make("div", {className: "viewer-frame"}, canvas, make("i", {className: "cross"}), readout), bar);

  const gl = canvas.getContext("webgl2", {preserveDrawingBuffer: true, antialias: false});
  if (!gl) { element.replaceChildren(make("p", {textContent: "This browser has no WebGL 2."})); return null; }
  element.release = () => gl.getExtension("WEBGL_lose_context").loseContext();  // a browser has some sixteen
  const look = dapProgram(gl, DAP_LOOK), points = dapProgram(gl, DAP_POINTS);
  const maps = {}, textures = {};
  let cursor = null;

  function texture(unit, wrap, filter, fill) {
    const made = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, made);
    fill();
    for (const [name, value] of [["WRAP_S", wrap], ["WRAP_T", gl.CLAMP_TO_EDGE], ["MIN_FILTER", filter], ["MAG_FILTER", filter]])
      gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + name], value);
    return made;
  }
  async function load() {
    const image = new Image();
    image.src = scene.picture;
    await image.decode();
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 2);
    texture(0, gl.REPEAT, gl.LINEAR, () => gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image));
    for (const name of names) maps[name] = await dapUnits(scene.maps[name]);
    const shown = names.length ? maps : {"": {width: 1, height: 1, units: new Uint16Array(1)}};
    for (const [name, {width, height, units}] of Object.entries(shown))
      textures[name] = texture(1, gl.CLAMP_TO_EDGE, gl.NEAREST, () => gl.texImage2D(
        gl.TEXTURE_2D, 0, gl.R16UI, width, height, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, units));
    new ResizeObserver(draw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    set({});
    element.dataset.ready = "1";
  }

  function camera() {  // columns: forward, left, up
    const yaw = -state.yaw * Math.PI / 180, pitch = state.pitch * Math.PI / 180;
    const [c, s, d, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return [c * d, s * d, t, -s, c, 0, -c * t, -s * t, d];
  }
  function scale() {
    const half = Math.tan((state.mode === "outside" ? 60 : state.fov) * Math.PI / 360);
    return [half * canvas.width / canvas.height, half];
  }
  function draw(event, ids = false) {
    if (!canvas.isConnected || gl.isContextLost()) return;
    const ratio = window.devicePixelRatio || 1, turn = camera();
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    const back = getComputedStyle(canvas).backgroundColor.match(/[\d.]+/g).slice(0, 3).map(value => value / 255);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...(ids ? [0, 0, 0] : back), 1);
    gl.enable(gl.DEPTH_TEST);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const program = state.mode === "look" ? look : points, at = name => gl.getUniformLocation(program, name);
    gl.useProgram(program);
    gl.bindTexture(gl.TEXTURE_2D, textures[state.map]);
    for (const [name, value] of [["picture", 0], ["units", 1], ["mask", state.mask], ["map", names.length > 0], ["flat_", ids]])
      gl.uniform1i(at(name), value);
    gl.uniform1f(at("blend"), state.blend);
    gl.uniform2fv(at("scale"), scale());
    gl.uniformMatrix3fv(at("camera"), false, turn);
    if (program === look) { gl.drawArrays(gl.TRIANGLES, 0, 3); return; }
    const back_m = state.mode === "outside" ? state.away * maps[state.map].middleM : 0;
    gl.uniform3f(at("eye"), ...turn.slice(0, 3).map(value => -value * back_m));
    gl.uniform1f(at("rows"), canvas.height);
    gl.drawArrays(gl.POINTS, 0, maps[state.map].width * maps[state.map].height);
  }

  function pixelAt(x, y) {  // of the map, under a place of the canvas (0 to 1 from the top left); -1: none
    const {width, height} = maps[state.map];
    if (state.mode === "outside") {
      const found = new Uint8Array(4);
      draw(null, true);
      gl.readPixels(Math.floor(x * canvas.width), Math.floor((1 - y) * canvas.height), 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, found);
      draw();
      return found[0] + 256 * found[1] + 65536 * found[2] - 1;
    }
    const c = camera(), [across, up] = scale(), a = (1 - 2 * x) * across, b = (1 - 2 * y) * up;
    const ray = [0, 1, 2].map(i => c[i] + a * c[3 + i] + b * c[6 + i]), length = Math.hypot(...ray);
    const u = (0.5 - Math.atan2(ray[1], ray[0]) / (2 * Math.PI)) * width;
    const v = (0.5 - Math.asin(ray[2] / length) / Math.PI) * height;
    return Math.min(height - 1, Math.floor(v)) * width + Math.floor(u) % width;
  }
  function distanceAt(x, y) {  // metres; null without a value, Infinity beyond the range
    const units = names.length ? maps[state.map].units[pixelAt(x, y)] : 0;
    return !units ? null : units === 65535 ? Infinity : units / 512;
  }
  function tell() {
    const [x, y] = cursor || [0.5, 0.5], metres = names.length ? distanceAt(x, y) : null;
    const words = metres === null ? "no distance" : metres === Infinity ? "beyond the range" : `${metres.toFixed(2)} m`;
    readout.textContent = names.length ? words : "";
    [readout.style.left, readout.style.top] = [`${100 * Math.min(0.85, x)}%`, `${100 * Math.min(0.9, y)}%`];
    direction.textContent = `yaw ${Math.round(state.yaw)}°, pitch ${Math.round(state.pitch)}°`;
  }
  function set(values) {
    Object.assign(state, values);
    state.yaw = ((state.yaw + 180) % 360 + 360) % 360 - 180;
    state.pitch = Math.max(-90, Math.min(90, state.pitch));
    state.fov = Math.max(20, Math.min(130, state.fov));
    state.away = Math.max(0.2, Math.min(20, state.away));
    if (!names.length) state.mode = "look";
    [mode.value, map.value, blend.value, mask.checked] = [state.mode, state.map, state.blend, state.mask];
    draw();
    tell();
  }
  const zoom = by => set(state.mode === "outside" ? {away: state.away * by} : {fov: state.fov * by});
  const next = (list, now) => list[(list.indexOf(now) + 1) % list.length];
  const home = () => set({...start, mode: state.mode, map: state.map, blend: state.blend, mask: state.mask});

  mode.onchange = map.onchange = mask.onchange = blend.oninput =
    () => set({mode: mode.value, map: map.value, mask: mask.checked, blend: Number(blend.value)});
  reset.onclick = home;
  canvas.onkeydown = event => {
    const by = event.shiftKey ? 1 : 10, keys = {
      ArrowLeft: () => set({yaw: state.yaw - by}), ArrowRight: () => set({yaw: state.yaw + by}),
      ArrowUp: () => set({pitch: state.pitch + by}), ArrowDown: () => set({pitch: state.pitch - by}),
      "+": () => zoom(1 / 1.2), "=": () => zoom(1 / 1.2), "-": () => zoom(1.2), Home: home,
      b: () => set({blend: state.blend >= 1 ? 0 : Math.min(1, state.blend + 0.25)}), m: () => set({mask: !state.mask}),
      v: () => set({mode: next(Object.keys(DAP_MODES), state.mode)}), d: () => set({map: next(names, state.map) || ""}),
    }, does = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    cursor = null;
    does();
  };
  const fingers = new Map(), place = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.onpointerdown = event => {
    fingers.set(event.pointerId, cursor = place(event));
    canvas.setPointerCapture(event.pointerId);
    tell();
  };
  canvas.onpointerup = canvas.onpointercancel = event => fingers.delete(event.pointerId);
  canvas.onpointerleave = () => { if (!fingers.size) { cursor = null; tell(); } };
  canvas.onpointermove = event => {
    const [x, y] = cursor = place(event), before = fingers.get(event.pointerId);
    if (!before) { tell(); return; }
    const spread = () => { const [one, two] = [...fingers.values()]; return Math.hypot(one[0] - two[0], one[1] - two[1]); };
    const wide = fingers.size === 2 ? spread() : 0, turn = state.mode === "outside" ? 120 : state.fov;
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size === 2) { zoom(wide / Math.max(1e-3, spread())); return; }
    set({yaw: state.yaw - (x - before[0]) * turn * canvas.width / canvas.height, pitch: state.pitch + (y - before[1]) * turn});
  };
  canvas.addEventListener("wheel", event => {
    if (document.activeElement === canvas) { event.preventDefault(); zoom(Math.exp(event.deltaY / 800)); }
  }, {passive: false});
  load();
  return {state, set, distanceAt};
}
