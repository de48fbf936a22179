// What is asked of the studio; the token stands in the page's address.
const token = new URLSearchParams(location.search).get("token") ?? "";

export const address = (path, query = {}) => `${path}?${new URLSearchParams({ ...query, token })}`;
export const projectPath = (name, rest = "") => `/api/projects/${encodeURIComponent(name)}${rest}`;
export const jobPath = (job, rest = "") => {
  const [project, name] = job.id.split("/");
  return projectPath(project, `/jobs/${name}${rest}`);
};

export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(address(path), {
      method,
      body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
    });
  } catch {
    throw new Error("The studio cannot be reached. Start it again; nothing is lost.");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

// Calls `told` with each job that changes, and `connected` with whether the studio answers. A page that nobody sees lets
// go of its stream: browsers have six connections to a server, whatever the number of pages.
export function listen(told, connected) {
  let stream = null;
  const open = () => {
    stream = new EventSource(address("/api/events"));
    stream.onmessage = (event) => told(JSON.parse(event.data));
    stream.onopen = () => connected(true);
    stream.onerror = () => connected(false);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? stream.close() : open()));
  window.addEventListener("pagehide", () => stream.close());
  open();
}

export function made(tag, values = {}, ...children) {
  const { data = {}, ...rest } = values;
  const node = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(data)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const element = (id) => document.getElementById(id);

export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${Math.max(1, whole)} s`;
  if (whole < 3600) return `${Math.round(whole / 60)} min`;
  if (whole < 48 * 3600) return `${(whole / 3600).toFixed(1)} h`;
  return `${Math.round(whole / 86400)} days`;
}

export function amount(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes.toFixed(bytes < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

// With the sign for sizes that people read: 768 × 768.
export const labelOf = (look) => look.label.replace(/(\d)x(\d)/, "$1 × $2");
