const input = document.querySelector("#words");
const summary = document.querySelector("#summary");
const list = document.querySelector("#found");

function show({ words, found }) {
  if (words !== input.value) return; // an answer to what was typed before
  summary.textContent = `${found.length} found`;
  list.replaceChildren(...found.map(({ title, text }) => {
    const item = document.createElement("li");
    const heading = document.createElement("h2");
    const body = document.createElement("p");
    heading.textContent = title;
    body.textContent = text;
    item.append(heading, body);
    return item;
  }));
}

// The websocket answers while you type. Not every way to the app carries websockets
// (AppAPI's PHP proxy does not), so plain requests are what it falls back to.
const address = new URL("live", location.href);
address.protocol = address.protocol.replace("http", "ws");
const socket = new WebSocket(address);
socket.addEventListener("message", (event) => show(JSON.parse(event.data)));

async function search() {
  const words = input.value;
  if (socket.readyState === WebSocket.OPEN) return socket.send(words);
  const answer = await fetch(`api/search?q=${encodeURIComponent(words)}`);
  if (answer.ok) show(await answer.json());
  else summary.textContent = `The app answered ${answer.status}.`;
}

input.addEventListener("input", search);
input.form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
search();
