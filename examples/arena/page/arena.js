import { Player } from "./allspark.js";

const at = (id) => document.getElementById(id);
const board = at("board").getContext("2d");
const game = await (await fetch("game.json")).json();

let shown = { players: [], stars: [] }; // as drawn
let world; // as the master said last
let said = 0, since = performance.now();

const player = new Player({
  ...game,
  onState(state, why) {
    at("status").textContent = {
      connecting: "connecting …",
      connected: `you are ${short(player.name)}`,
      away: `away: ${why}. Coming back …`,
      ended: `ended: ${why}`,
    }[state];
    document.body.dataset.state = state;
  },
  onHeader(header) {
    at("goal").textContent = header.goal;
  },
  onMessage(message) {
    const { payload } = message;
    if (payload?.winner) at("round").textContent = `${payload.winner} has won round ${payload.round}`;
    if (!payload?.players) return;
    said++;
    world = payload;
    document.body.dataset.tick = world.tick;
    scores(world.players);
  },
});

player.open();

/** Of an alias the part behind the session's id. */
function short(name = "") { return name.slice(name.indexOf("~") + 1); }

const colors = new Map();
function color(name) {
  if (!colors.has(name)) {
    let h = 0;
    for (const c of name) h = (h * 31 + c.charCodeAt(0)) % 360;
    colors.set(name, `hsl(${h} 65% 62%)`);
  }
  return colors.get(name);
}

function scores(players) {
  const best = players.toSorted((a, b) => b.score - a.score).slice(0, 10);
  at("scores").replaceChildren(...best.map(({ name, score }) => {
    const line = document.createElement("li");
    line.className = name === short(player.name) ? "me" : "";
    for (const text of [name, score]) line.appendChild(document.createElement("span")).textContent = text;
    return line;
  }));
}

// Steering: said when it changes, and once a second so that the master knows we
// are there.
const keys = new Set();
const directions = { ArrowLeft: [-1, 0], KeyA: [-1, 0], ArrowRight: [1, 0], KeyD: [1, 0], ArrowUp: [0, -1], KeyW: [0, -1], ArrowDown: [0, 1], KeyS: [0, 1] };
let pointer, told = "";
addEventListener("keydown", (e) => { if (directions[e.code]) { keys.add(e.code); e.preventDefault(); steer(); } });
addEventListener("keyup", (e) => { keys.delete(e.code); steer(); });
addEventListener("blur", () => { keys.clear(); steer(); });
for (const type of ["pointerdown", "pointermove", "pointerup", "pointerleave"]) {
  at("board").addEventListener(type, (e) => {
    const scale = 1000 / at("board").clientWidth;
    pointer = e.buttons && type !== "pointerleave" ? { x: e.offsetX * scale, y: e.offsetY * scale } : undefined;
    steer();
  });
}

function steer(always) {
  let x = 0, y = 0;
  for (const key of keys) { x += directions[key][0]; y += directions[key][1]; }
  const me = world?.players.find((p) => p.name === short(player.name));
  if (pointer && me) {
    x = (pointer.x - me.x) / 40;
    y = (pointer.y - me.y) / 40;
  }
  const now = JSON.stringify({ x: +x.toFixed(2), y: +y.toFixed(2) });
  if (always || now !== told) player.say("steer", JSON.parse(told = now));
}
setInterval(() => steer(true), 1000);
setInterval(() => {
  at("figures").textContent = `${(said * 1000 / (performance.now() - since)).toFixed(0)} ticks/s`;
  said = 0;
  since = performance.now();
}, 2000);

/** What is shown goes a part of the way to where the master says it is. */
function draw() {
  if (pointer) steer();
  if (world) {
    const before = new Map(shown.players.map((p) => [p.name, p]));
    shown = {
      stars: world.stars,
      players: world.players.map((p) => {
        const was = before.get(p.name) ?? p;
        return { ...p, x: was.x + (p.x - was.x) * 0.35, y: was.y + (p.y - was.y) * 0.35 };
      }),
    };
  }
  board.clearRect(0, 0, 1000, 600);
  for (const [x, y] of shown.stars) star(x, y);
  board.font = "13px system-ui, sans-serif";
  board.textAlign = "center";
  for (const { name, x, y } of shown.players) {
    const me = name === short(player.name);
    board.fillStyle = color(name);
    board.beginPath();
    board.arc(x, y, 15, 0, 2 * Math.PI);
    board.fill();
    if (me) { board.lineWidth = 3; board.strokeStyle = "#ffd166"; board.stroke(); }
    board.fillStyle = me ? "#ffd166" : "#8394a7";
    board.fillText(me ? "you" : name.slice(0, 6), Math.min(Math.max(x, 24), 976), y > 40 ? y - 22 : y + 32);
  }
  requestAnimationFrame(draw);
}

function star(x, y) {
  board.fillStyle = "#7bdff2";
  board.beginPath();
  for (let i = 0; i < 10; i++) {
    const r = i % 2 ? 4.5 : 10, a = Math.PI * i / 5 - Math.PI / 2;
    board.lineTo(x + r * Math.cos(a), y + r * Math.sin(a));
  }
  board.fill();
}

requestAnimationFrame(draw);
