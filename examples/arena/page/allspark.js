// A small AllSpark client for pages: an anonymous player in a session.

/** A call of the HTTP API. A refusal is an Error with the server's code. */
async function call(server, method, path, key, body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(server + path, { method, headers, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.detail ?? said.code), said);
  return said;
}

/** Close codes from 4500 on say that coming back does not help, see the protocol. */
const comesBack = (code) => code !== 1009 && code < 4500 || code === 4501;

/**
 * Player is somebody without an account in a session: it makes itself a guest,
 * joins by an alias, and stays connected. What arrives goes to onMessage and
 * onHeader; what it is doing, to onState.
 */
export class Player {
  constructor({ server, session, onMessage, onHeader, onState }) {
    Object.assign(this, { server, session, onMessage, onHeader, onState });
    this.pause = 250;
  }

  /** Connects, and comes back by itself from then on. */
  async open() {
    try {
      this.onState("connecting");
      // A guest's key is kept for the tab: who reloads the page is still the same.
      this.key ??= sessionStorage.getItem("guest");
      if (!this.key) {
        this.key = (await call(this.server, "POST", "/v1/guests", undefined, { session_id: this.session })).auth_key;
        sessionStorage.setItem("guest", this.key);
      }
      const joined = await call(this.server, "POST", `/v1/sessions/${this.session}/join`, this.key, { as_anonymous: true });
      this.name = joined.node_id;
      const { servers } = await call(this.server, "POST", "/v1/connect", this.key, { session_id: this.session });
      const at = servers[0];
      this.socket = new WebSocket(at.url.replace(/^http/, "ws") + "/ws", ["allspark.v2.json", `bearer.${at.validation_token}`]);
    } catch (e) {
      if (e.code === "unauthorized" || e.code === "revoked") { // the guest's time is over
        this.key = undefined;
        sessionStorage.removeItem("guest");
      }
      this.retry(e.message, e.retry_ms);
      return;
    }
    // Who comes for the first time starts now; who comes back gets what it has missed.
    this.socket.onopen = () => this.socket.send(JSON.stringify({ control: "hello", ...(this.here ? {} : { resume: false }) }));
    this.socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => {
      if (comesBack(code)) this.retry(reason || "the connection broke");
      else this.onState("ended", reason);
    };
  }

  take(frame) {
    switch (frame.control) {
      case undefined:
        this.acknowledge(frame);
        this.onMessage(frame);
        break;
      case "caught_up":
        this.pause = 250;
        this.here = true;
        this.onState("connected");
        break;
      case "header":
        this.onHeader(frame.payload);
        break;
      case "reconnect":
        setTimeout(() => this.socket.close(), frame.after_ms);
        break;
    }
  }

  /** Says how far stored messages have been handled, at most once a second. */
  acknowledge({ seq, dest_session_id: session, dest_id: node }) {
    if (!seq) return;
    this.cursors ??= {};
    this.cursors[node ? `node:${node}` : `session:${session}`] = seq;
    this.acking ??= setTimeout(() => {
      this.acking = undefined;
      // While the connection is away the cursors wait for the next message.
      if (this.socket.readyState !== WebSocket.OPEN) return;
      this.socket.send(JSON.stringify({ control: "ack", cursors: this.cursors }));
      this.cursors = undefined;
    }, 1000);
  }

  retry(why, after = this.pause * (0.5 + Math.random())) {
    this.onState("away", why);
    this.pause = Math.min(this.pause * 2, 10_000);
    setTimeout(() => this.open(), after);
  }

  /** Sends to the session, which nobody waits for: the newest of its key counts. */
  say(key, payload) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ dest_session_id: this.session, class: "latest", key, payload }));
  }
}
