// The page of a host: asks the API that the command line asks, and shows what it says. All text is set as text, never as markup.
const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const KEEP = 450, PERIOD = 2000, STALE = 6000;
const store = { token: sessionStorage.getItem('token') || '', status: null, at: 0, history: new Map(), shown: 100, filter: '', letters: null, open: new Map(), sure: null, busy: false };

// `#token=…` is for one look: it must not stay in the address, where a screenshot or a history would show it.
if (location.hash.startsWith('#token=')) {
  store.token = decodeURIComponent(location.hash.slice(7));
  sessionStorage.setItem('token', store.token);
  history.replaceState(null, '', '#/');
}

function set(node, key, value) {
  // By way of the node, so that a later drawing can put others in their place.
  if (key === 'on') { node.on = value; for (const name of Object.keys(value)) node.addEventListener(name, (event) => node.on[name](event)); }
  else if (key === 'class') node.setAttribute('class', value);
  else if (value === true) node.setAttribute(key, '');
  else if (value !== false && value != null) node.setAttribute(key, value);
}
function make(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) set(node, key, value);
  for (const child of children.flat(3)) if (child != null && child !== false) node.append(child);
  return node;
}
const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

const ways = (node) => Object.keys(node.on || {}).join();
// Makes `old` what `fresh` is and keeps every node that can stay: whoever reads, selects, scrolls or clicks there is not disturbed.
function renew(old, fresh) {
  const stays = old.nodeName === fresh.nodeName && ways(old) === ways(fresh) && old.id === fresh.id && (old.dataset || {}).key === (fresh.dataset || {}).key;
  if (!stays) { old.replaceWith(fresh); return; }
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  old.on = fresh.on;
  renewChildren(old, [...fresh.childNodes]);
}
function renewChildren(old, fresh) {
  while (old.childNodes.length > fresh.length) old.lastChild.remove();
  fresh.forEach((child, index) => { if (old.childNodes[index]) renew(old.childNodes[index], child); else old.append(child); });
}

async function ask(path, body) {
  const headers = { authorization: `Bearer ${store.token}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const answer = await fetch(path, { method: body === undefined ? 'GET' : 'POST', headers, cache: 'no-store', body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  let told = {};
  try { told = JSON.parse(text); } catch { /* not from the host itself */ }
  if (!answer.ok) {
    const error = new Error(told.error ? told.error.message : `the host answered ${answer.status}`);
    Object.assign(error, { status: answer.status, help: told.error ? told.error.help : '' });
    throw error;
  }
  return { told, text };
}

const unknown = '–';
const number = (value) => value == null ? unknown : value >= 1e6 ? `${(value / 1e6).toFixed(1)} M` : value >= 1e4 ? `${(value / 1e3).toFixed(value >= 1e5 ? 0 : 1)} k` : value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en') : value.toFixed(1);
function bytes(value) {
  if (value == null) return unknown;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < 4) { value /= 1024; unit++; }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
function seconds(value) {
  if (value == null) return unknown;
  if (value < 0.0005) return '0 s';
  if (value < 1) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 90) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} d`;
}
const ago = (time) => time ? `${seconds(Math.max(0, (Date.now() - Date.parse(time)) / 1000))} ago` : unknown;

const KINDS = { streaming: 'good', copying: 'good', starting: 'warn', waiting: 'rest', paused: 'rest', draining: 'warn', retrying: 'bad', failed: 'bad', stopped: 'rest' };
const ORDER = ['failed', 'retrying', 'paused', 'draining', 'starting', 'stopped', 'waiting', 'copying', 'streaming'];
const pill = (state) => h('span', { class: `pill ${KINDS[state] || ''}` }, state);
const troubles = (told) => (told.sinks || []).filter((sink) => sink.trouble);
const used = (slot) => slot && slot.limit_bytes && slot.safe_bytes != null ? Math.min(1, Math.max(0, 1 - slot.safe_bytes / slot.limit_bytes)) : null;

function bar(part, label) {
  if (part == null) return null;
  const kind = part > 0.9 ? 'bad' : part > 0.75 ? 'warn' : '';
  return s('svg', { class: 'bar', role: 'img', 'aria-label': label, viewBox: '0 0 100 8', preserveAspectRatio: 'none' },
    s('rect', { width: 100, height: 8, rx: 2 }), s('rect', { class: `fill ${kind}`, width: Math.max(1, part * 100), height: 8, rx: 2 }));
}
function line(points, width, height) {
  const most = Math.max(1e-9, ...points.map(([, value]) => value));
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const at = ([time, value]) => `${(((time - first) / Math.max(1, last - first)) * width).toFixed(1)} ${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`;
  return { path: `M${points.map(at).join('L')}`, most };
}
function spark(points) {
  if (points.length < 2) return h('span', { class: 'quiet' }, unknown);
  return s('svg', { class: 'spark', 'aria-hidden': 'true', viewBox: '0 0 110 28', preserveAspectRatio: 'none' }, s('path', { d: line(points, 110, 28).path }));
}
function chart(title, points, unit) {
  const body = points.length < 2 ? h('p', { class: 'empty' }, 'It is drawn as numbers come in.') : (() => {
    const { path, most } = line(points, 600, 130);
    return [
      s('svg', { class: 'chart', role: 'img', 'aria-label': `${title}: now ${unit(points[points.length - 1][1])}, at most ${unit(most)}`, viewBox: '0 0 600 130', preserveAspectRatio: 'none' },
        s('line', { x1: 0, x2: 600, y1: 129, y2: 129 }), s('path', { class: 'area', d: `${path}L600 130L0 130Z` }), s('path', { d: path })),
      h('div', { class: 'axis' }, h('span', {}, `${seconds((points[points.length - 1][0] - points[0][0]) / 1000)} ago`), h('span', {}, `at most ${unit(most)}`), h('span', {}, 'now')),
    ];
  })();
  return h('section', { class: 'card' }, h('h2', {}, title), body);
}

function remember(pipelines, now) {
  const names = new Set(pipelines.map((told) => told.name));
  for (const name of store.history.keys()) if (!names.has(name)) store.history.delete(name);
  for (const told of pipelines) {
    const past = store.history.get(told.name) || { rate: [], lag: [], last: null };
    if (past.last && told.events >= past.last.events && now > past.last.at) past.rate.push([now, ((told.events - past.last.events) * 1000) / (now - past.last.at)]);
    if (told.lag.seconds != null) past.lag.push([now, told.lag.seconds]);
    past.last = { events: told.events, at: now };
    for (const list of [past.rate, past.lag]) if (list.length > KEEP) list.splice(0, list.length - KEEP);
    store.history.set(told.name, past);
  }
}
const rate = (name) => { const past = store.history.get(name); return past && past.rate.length ? past.rate[past.rate.length - 1][1] : null; };

function say(text) { $('said').textContent = text; clearTimeout(say.timer); say.timer = setTimeout(() => { $('said').textContent = ''; }, 6000); }

function twice(key, label, sureLabel, attributes, act) {
  const is = store.sure === key;
  return h('button', { type: 'button', 'data-key': key, class: is ? 'sure' : attributes.class || '', disabled: store.busy || attributes.disabled, on: { click: () => {
    if (!is) { store.sure = key; draw(); setTimeout(() => { if (store.sure === key) { store.sure = null; draw(); } }, 5000); return; }
    store.sure = null; act();
  } } }, is ? sureLabel : label);
}
async function act(path, body, done) {
  store.busy = true; draw();
  try { const { told } = await ask(path, body); say(done(told)); } catch (error) { say(`${error.message}. ${error.help || ''}`); }
  store.busy = false;
  await refresh();
}

function login(error) {
  $('leave').hidden = true;
  const field = h('input', { id: 'token', type: 'password', autocomplete: 'off', required: true, spellcheck: 'false' });
  const enter = () => { store.token = field.value.trim(); sessionStorage.setItem('token', store.token); refresh(); };
  return h('form', { class: 'card login', on: { submit: (event) => { event.preventDefault(); enter(); } } },
    h('h1', {}, 'A token, please'),
    error ? h('p', { class: 'note', role: 'alert' }, error) : null,
    h('p', { class: 'quiet' }, 'Whoever runs the host names tokens in ', h('code', {}, 'api.tokens'), ' of the host file, or with ', h('code', {}, '--api-token'), '. It stays in this tab.'),
    h('div', {}, h('label', { for: 'token' }, 'Token'), field),
    h('div', {}, h('button', { class: 'first', type: 'submit' }, 'Look at the host')));
}

function tile(label, value, note, kind) { return h('div', { class: `tile ${kind || ''}` }, h('dt', {}, label), h('dd', {}, value, note ? h('small', {}, note) : null)); }

function overview() {
  const all = store.status.pipelines;
  const by = (...states) => all.filter((told) => states.includes(told.state)).length;
  const lags = all.map((told) => told.lag.seconds).filter((lag) => lag != null);
  const letters = all.reduce((sum, told) => sum + (told.letters && told.letters.kept || 0), 0);
  const rates = all.map((told) => rate(told.name)).filter((value) => value != null);
  const down = by('failed', 'retrying'), worst = lags.length ? Math.max(...lags) : null;
  const wanted = store.filter.toLowerCase();
  const found = all.filter((told) => !wanted || [told.name, told.tenant || '', told.state].some((text) => text.toLowerCase().includes(wanted)));
  found.sort((one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state) || troubles(other).length - troubles(one).length || one.name.localeCompare(other.name));
  const rows = found.slice(0, store.shown).map((told) => {
    const part = used(told.slot), kept = told.letters ? told.letters.kept : null, trouble = troubles(told);
    return h('tr', {},
      h('td', { class: 'title' }, h('span', {}, h('a', { class: 'name', href: `#/p/${encodeURIComponent(told.name)}` }, told.name), trouble.length ? h('span', { class: 'quiet' }, ` · ${trouble.map((sink) => sink.name).join(', ')} in trouble`) : null)),
      h('td', { 'data-label': 'State' }, pill(told.state)),
      h('td', { 'data-label': 'Events per second', class: 'number' }, number(rate(told.name))),
      h('td', { 'data-label': 'Trend' }, spark((store.history.get(told.name) || { rate: [] }).rate)),
      h('td', { 'data-label': 'Lag', class: 'number' }, seconds(told.lag.seconds)),
      h('td', { 'data-label': 'Log kept' }, h('span', {}, bytes(told.slot && told.slot.retained_bytes), bar(part, part == null ? '' : `${Math.round(part * 100)} % of the log that may be kept is used`))),
      h('td', { 'data-label': 'Dead letters', class: 'number' }, number(kept)));
  });
  const field = h('input', { id: 'filter', type: 'search', value: store.filter, placeholder: 'Name, tenant or state', on: { input: (event) => { store.filter = event.target.value; store.shown = 100; draw(); } } });
  return [
    h('div', { class: 'head' }, h('div', { class: 'grow' }, h('h1', {}, 'Pipelines'), h('p', { class: 'quiet' }, `Host ${store.status.version}, process ${store.status.pid}, runs since ${new Date(store.status.since).toLocaleString()}${store.status.draining ? ' – it is about to end' : ''}`))),
    h('dl', { class: 'tiles' },
      tile('Running', `${by('streaming', 'copying')} of ${all.length}`, [['copying', 'copy'], ['starting', 'start'], ['waiting', 'wait for their slot'], ['draining', 'finish']].filter(([state]) => by(state)).map(([state, word]) => `${by(state)} ${word}`).join(', ') || 'pipelines'),
      tile('Down', String(down), 'failed, or trying again', down ? 'bad' : ''),
      tile('Paused', String(by('paused')), 'Postgres keeps their log', by('paused') ? 'warn' : ''),
      tile('Worst lag', seconds(worst), 'oldest change on its way', worst > 60 ? 'bad' : ''),
      tile('Events', rates.length ? `${number(rates.reduce((sum, value) => sum + value, 0))}/s` : unknown, 'all pipelines'),
      tile('Dead letters', number(letters), 'events set aside', letters ? 'warn' : '')),
    h('section', { class: 'card', 'aria-labelledby': 'list' },
      h('div', { class: 'head' }, h('h2', { id: 'list', class: 'grow' }, 'All pipelines'), h('div', {}, h('label', { for: 'filter', class: 'hide' }, 'Filter'), field)),
      rows.length ? h('div', { class: 'wide', role: 'region', 'aria-labelledby': 'list', tabindex: 0 }, h('table', { class: 'stack' },
        h('caption', { class: 'hide' }, 'Pipelines, those that need somebody first'),
        h('thead', {}, h('tr', {}, ['Name', 'State'].map((text) => h('th', { scope: 'col' }, text)), h('th', { scope: 'col', class: 'number' }, 'Events/s'), h('th', { scope: 'col' }, 'Trend'), h('th', { scope: 'col', class: 'number' }, 'Lag'), h('th', { scope: 'col' }, 'Log kept'), h('th', { scope: 'col', class: 'number' }, 'Dead letters'))),
        h('tbody', {}, rows))) : h('p', { class: 'empty' }, all.length ? 'No pipeline is called so.' : 'This host runs no pipeline.'),
      found.length > store.shown ? h('p', {}, h('button', { type: 'button', on: { click: () => { store.shown += 200; draw(); } } }, `Show more: ${found.length - store.shown} are left`)) : null),
  ];
}

function graph(told) {
  const { transforms, sinks } = told, edges = told.graph || { source: 'source', kind: '', sinks: [] };
  // Beside each other where there is room, else one below the other.
  const tall = innerWidth < 720, wide = 220, low = 54;
  const columns = [1, transforms.length, sinks.length], most = Math.max(1, ...columns);
  const width = tall ? 300 : 860, step = 84, length = tall ? 26 + 64 * (1 + transforms.length + sinks.length) + 40 : most * step + 8;
  const row = (column, index) => 8 + 64 * (columns.slice(0, column).reduce((sum, count) => sum + count, 0) + index) + 20 * column;
  const at = (column, index) => tall ? { x: 50, y: row(column, index) } : { x: 5 + column * 315, y: ((index + 0.5) * length) / Math.max(1, columns[column]) - low / 2 };
  const short = (text, room) => text.length > room ? `${text.slice(0, room - 1)}…` : text;
  const node = ({ x, y }, name, kind, state) => s('g', {}, s('rect', { class: `node ${state}`, x, y, width: wide, height: low, rx: 11 }), s('title', {}, `${name}: ${kind}`), s('text', { x: x + 14, y: y + 23 }, short(name, 27)), s('text', { class: 'kind', x: x + 14, y: y + 42 }, short(kind, 36)));
  const flows = (told.state === 'streaming' || told.state === 'copying') && rate(told.name) > 0;
  const lines = [], nodes = [];
  const edge = (from, to, rejects, lane) => {
    const side = tall ? (rejects ? 50 : 50 + wide) : 0, out = tall ? (rejects ? 22 : 278) - lane * 4 * (rejects ? -1 : 1) : 0;
    const d = tall ? `M${side} ${from.y + low / 2}H${out}V${to.y + low / 2}H${side}` : `M${from.x + wide} ${from.y + low / 2}C${from.x + wide + 55} ${from.y + low / 2} ${to.x - 55} ${to.y + low / 2} ${to.x} ${to.y + low / 2}`;
    lines.push(s('path', { class: `edge ${rejects ? 'rejects' : ''}`, d }), flows && !rejects ? s('path', { class: 'flow', d }) : null);
  };
  const calm = told.state === 'paused' ? 'rest' : 'good';
  nodes.push(node(at(0, 0), edges.source, `${edges.kind} · ${number(told.events)} events`, told.connected ? 'good' : told.state === 'paused' ? 'rest' : 'bad'));
  transforms.forEach((part, index) => {
    const rejected = Object.values(part.rejected).reduce((sum, count) => sum + count, 0);
    edge(at(0, 0), at(1, index), false, 0);
    nodes.push(node(at(1, index), part.name, rejected ? `${number(part.commands)} commands · ${number(rejected)} set aside` : `handler · ${number(part.commands)} commands`, calm));
  });
  sinks.forEach((part, index) => {
    const inputs = edges.sinks.find((sink) => sink.name === part.name) || { inputs: [], kind: 'sink' };
    for (const input of inputs.inputs) {
      const from = transforms.findIndex((other) => other.name === input.replace(/\.rejected$/, ''));
      if (from >= 0) edge(at(1, from), at(2, index), input.endsWith('.rejected'), index);
    }
    nodes.push(node(at(2, index), part.name, `${inputs.kind} · ${number(part.commands)} written`, part.trouble ? 'bad' : calm));
  });
  const label = `${edges.source} through ${transforms.map((part) => part.name).join(', ')} into ${sinks.map((part) => part.name + (part.trouble ? ', which is in trouble' : '')).join(', ')}`;
  return s('svg', { class: 'graph', role: 'img', 'aria-label': label, viewBox: `0 0 ${width} ${length}` }, lines.filter(Boolean), nodes);
}

function quantile(before, now, part) {
  if (!now) return null;
  const counts = now.counts.map((count, index) => count - (before ? before.counts[index] : 0));
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all <= 0) return null;
  let left = all * part;
  for (let index = 0; index < counts.length; index++) {
    if (left <= counts[index] && counts[index] > 0) {
      const low = index ? now.bounds[index - 1] : 0, high = now.bounds[index] ?? low;
      return low + ((high - low) * left) / counts[index];
    }
    left -= counts[index];
  }
  return now.bounds[now.bounds.length - 1];
}

function letters(told) {
  if (!told.letters) return h('section', { class: 'card' }, h('h2', {}, 'Dead letters'), h('p', { class: 'quiet' }, 'The pipeline keeps none: an event that cannot be taken stops it. A sink of type ', h('code', {}, 'dead-letters'), ' sets them aside.'));
  const path = `/api/v1/pipelines/${encodeURIComponent(told.name)}/letters`;
  const { list, error, more } = store.letters || {};
  const rows = (list || []).map((letter) => {
    const open = store.open.get(letter.id);
    return [h('tr', {},
      h('td', { 'data-label': 'Number', class: 'number' }, letter.id),
      h('td', { 'data-label': 'Table' }, letter.table),
      h('td', { 'data-label': 'Refused by' }, letter.sink ? `sink ${letter.sink}` : `handler ${letter.transform}`),
      h('td', { 'data-label': 'Why' }, h('span', {}, h('strong', {}, letter.code), ` ${letter.reason}`, letter.attempts > 1 ? h('span', { class: 'quiet' }, ` · ${letter.attempts} times`) : null, h('span', { class: 'quiet' }, ` · ${ago(letter.at)}`))),
      h('td', {}, h('span', { class: 'actions' },
        h('button', { type: 'button', 'data-key': `show ${letter.id}`, 'aria-expanded': String(!!open), on: { click: () => show(path, letter.id) } }, open ? 'Hide values' : 'Show values'),
        letter.replaying ? h('span', { class: 'pill warn' }, 'on its way') : h('button', { type: 'button', 'data-key': `replay ${letter.id}`, disabled: store.busy, on: { click: () => act(`${path}/replay`, { ids: [letter.id] }, replayed) } }, 'Replay'),
        twice(`drop ${letter.id}`, 'Discard', 'Discard for good', { class: 'danger' }, () => act(`${path}/drop`, { ids: [letter.id] }, () => `Letter ${letter.id} is discarded`))))),
      open ? h('tr', {}, h('td', { colspan: 5 }, h('pre', { tabindex: 0, 'aria-label': `Event of letter ${letter.id}` }, open))) : null];
  });
  return h('section', { class: 'card', 'aria-labelledby': 'letters' },
    h('div', { class: 'head' }, h('h2', { id: 'letters', class: 'grow' }, `Dead letters: ${number(told.letters.kept)} of at most ${number(told.letters.limit)}`),
      rows.length ? h('button', { type: 'button', 'data-key': 'replay all', disabled: store.busy, on: { click: () => act(`${path}/replay`, { all: true }, replayed) } }, 'Replay all') : null),
    error ? h('p', { class: 'note warn' }, error) : null,
    rows.length ? h('div', { class: 'wide' }, h('table', { class: 'stack' }, h('caption', { class: 'hide' }, 'Events that were set aside'), h('thead', {}, h('tr', {}, ['Number', 'Table', 'Refused by', 'Why', 'Actions'].map((text) => h('th', { scope: 'col' }, text)))), h('tbody', {}, rows))) : error ? null : h('p', { class: 'empty' }, list ? 'None. Every event has come through.' : 'Looking…'),
    more ? h('p', { class: 'quiet' }, 'There are more: the oldest hundred are shown.') : null);
}
const replayed = (told) => `${told.under_way.length} on their way${told.not_replayed.length ? `; ${told.not_replayed.length} cannot be replayed: ${told.not_replayed[0].reason}` : ''}`;
async function show(path, id) {
  if (store.open.delete(id)) return draw();
  try {
    const { text } = await ask(`${path}/${id}`);
    let shown = text;
    // Numbers are shown as they stand: to print them anew would round long ones.
    if (text.length < 200000) shown = text.replace(/^.*?"event":/s, '').replace(/\}\s*$/, '');
    store.open.set(id, shown);
  } catch (error) { say(`${error.message}. ${error.help || ''}`); }
  draw();
}

function pipeline(name) {
  const told = store.whole;
  if (!told || told.name !== name) return [h('p', {}, h('a', { href: '#/' }, '← All pipelines')), h('section', { class: 'card' }, h('h1', {}, name), h('p', { class: 'empty' }, store.missing || 'Looking…'))];
  const past = store.history.get(name) || { rate: [], lag: [] };
  const path = `/api/v1/pipelines/${encodeURIComponent(name)}`, paused = told.state === 'paused', over = ['failed', 'stopped'].includes(told.state);
  const part = used(told.slot), window = store.window || [];
  const [p50, p99] = [0.5, 0.99].map((q) => quantile(window.length > 1 ? window[0] : null, told.delivery, q));
  const copies = told.copies, open = copies ? copies.waiting + copies.running : 0;
  const trouble = troubles(told);
  return [
    h('p', {}, h('a', { href: '#/' }, '← All pipelines')),
    h('div', { class: 'head' },
      h('div', { class: 'grow' }, h('h1', {}, name), h('p', { class: 'quiet' }, pill(told.state), ` ${ago(told.since).replace(' ago', '')} so far`, told.tenant ? ` · tenant ${told.tenant}` : '', told.generation > 1 ? ` · settings number ${told.generation}` : '')),
      h('div', { class: 'actions' },
        paused ? h('button', { type: 'button', class: 'first', 'data-key': 'pause', disabled: store.busy, on: { click: () => act(`${path}/resume`, {}, () => `${name} goes on`) } }, 'Resume')
          : h('button', { type: 'button', class: 'first', 'data-key': 'pause', disabled: store.busy || over, on: { click: () => act(`${path}/pause`, { reason: 'from the page' }, () => `${name} is paused`) } }, store.busy ? 'Working…' : 'Pause'),
        twice('restart', 'Restart', 'Yes, restart', { disabled: paused }, () => act(`${path}/restart`, {}, () => `${name} is started again`)))),
    paused ? h('p', { class: 'note rest' }, `Paused by ${told.by || 'somebody'}, ${ago(told.since)}${told.reason ? `: ${told.reason}` : ''}. Its slot keeps its position, and Postgres keeps the log for it until it is resumed.`) : null,
    told.last_error && (over || told.state === 'retrying') ? h('p', { class: 'note', role: 'alert' }, `${told.last_error.message}${told.last_error.help ? `\n${told.last_error.help}` : ''}`) : null,
    trouble.map((sink) => h('p', { class: 'note warn' }, `Sink ${sink.name} is in trouble since ${ago(sink.trouble.since)}: ${sink.trouble.message}`)),
    told.waits_for ? h('p', { class: 'note warn' }, `Nothing becomes durable: it waits for ${told.waits_for}.`) : null,
    h('section', { class: 'card', 'aria-labelledby': 'way' }, h('h2', { id: 'way' }, 'From table to store'), graph(told)),
    h('dl', { class: 'tiles' },
      tile('Lag', seconds(told.lag.seconds), `${bytes(told.lag.bytes)} of log`, told.lag.seconds > 60 ? 'bad' : ''),
      tile('Delivery, half', seconds(p50), 'commit to all sinks, last minutes'),
      tile('Delivery, 99 %', seconds(p99), 'commit to all sinks, last minutes', p99 > 5 ? 'warn' : ''),
      tile('Events', rate(name) == null ? unknown : `${number(rate(name))}/s`, `${number(told.events)} in all`),
      h('div', { class: 'tile' }, h('dt', {}, 'Log kept for the slot'), h('dd', {}, bytes(told.slot && told.slot.retained_bytes), bar(part, 'part of the room that is used'), h('small', {}, part == null ? 'no limit is set' : `room for ${bytes(told.slot.safe_bytes)} more`))),
      tile('Copies', copies ? `${copies.done} of ${copies.done + open + copies.failed}` : unknown, copies ? open ? `${open} tables on their way` : copies.failed ? `${copies.failed} failed` : 'tables are complete' : 'not known', copies && copies.failed ? 'bad' : '')),
    h('div', { class: 'two' }, chart('Lag', past.lag, seconds), chart('Events per second', past.rate, number)),
    letters(told),
    h('section', { class: 'card', 'aria-labelledby': 'parts' }, h('h2', { id: 'parts' }, 'Parts'), h('div', { class: 'wide' }, h('table', { class: 'stack' },
      h('caption', { class: 'hide' }, 'Handlers, embedders and sinks in numbers'),
      h('thead', {}, h('tr', {}, ['Part', 'Kind', 'Work', 'State'].map((text) => h('th', { scope: 'col' }, text)))),
      h('tbody', {},
        told.transforms.map((part) => h('tr', {}, h('td', { class: 'title' }, part.name), h('td', { 'data-label': 'Kind' }, 'handler'), h('td', { 'data-label': 'Work' }, `${number(part.events)} events, ${number(part.commands)} commands, ${seconds(part.cpu_seconds)} of CPU`), h('td', { 'data-label': 'State' }, `${part.instances} instances, ${bytes(part.memory_bytes)} of memory`))),
        told.embedders.map((part) => h('tr', {}, h('td', { class: 'title' }, part.name), h('td', { 'data-label': 'Kind' }, `embedder ${part.model}`), h('td', { 'data-label': 'Work' }, `${number(part.texts)} texts, ${number(part.cache_hits)} remembered${part.tokens ? `, ${number(part.tokens)} tokens` : ''}`), h('td', { 'data-label': 'State' }, part.backoff_seconds ? `waits ${seconds(part.backoff_seconds)}` : `${part.in_flight} under way`))),
        told.sinks.map((part) => h('tr', {}, h('td', { class: 'title' }, part.name), h('td', { 'data-label': 'Kind' }, 'sink'), h('td', { 'data-label': 'Work' }, `${number(part.commands)} written, ${number(part.retries)} tried again, ${number(part.refused_events)} refused`), h('td', { 'data-label': 'State' }, part.trouble ? h('span', { class: 'pill bad' }, 'in trouble') : `${number(part.waiting_commands)} wait`)))))),
    ),
  ];
}

const route = () => location.hash.startsWith('#/p/') ? decodeURIComponent(location.hash.slice(4)) : null;
let drawn = null;
function draw(error) {
  const main = $('main'), focused = document.activeElement, key = focused && focused.dataset.key;
  const view = error || !store.status ? (error ? [login(error === true ? '' : error)] : [h('p', { class: 'empty' }, 'Connecting…')]) : route() ? pipeline(route()) : overview();
  renewChildren(main, view.flat(3).filter(Boolean));
  $('leave').hidden = !store.token || !!error;
  // A control that had to be made anew stays in use.
  const again = key && document.activeElement === document.body && [...main.querySelectorAll('[data-key]')].find((node) => node.dataset.key === key);
  if (again) again.focus({ preventScroll: true });
  const place = route() || 'all';
  if (drawn !== null && drawn !== place) { main.focus({ preventScroll: true }); window.scrollTo(0, 0); }
  drawn = place;
  document.title = `${route() || (store.status ? `${store.status.pipelines.length} pipelines` : '')} · pgstream-host`.replace(/^ · /, '');
}

function freshness() {
  const age = Date.now() - store.at, stale = !store.at || age > STALE;
  $('fresh').classList.toggle('stale', stale && store.at > 0);
  $('fresh').classList.toggle('off', !store.at);
  const text = !store.token ? 'Not signed in' : !store.at ? 'Connecting…' : stale ? `The host does not answer; this is ${seconds(age / 1000)} old` : 'Live';
  if ($('fresh-text').textContent !== text) $('fresh-text').textContent = text;
}

let running = false;
async function refresh() {
  if (running) { refresh.again = true; return; }
  running = true;
  try {
    if (!store.token) { store.status = null; draw(true); return; }
    const { told } = await ask('/api/v1/status');
    const now = Date.now();
    remember(told.pipelines, now);
    store.status = told; store.at = now;
    const name = route();
    if (name) {
      const path = `/api/v1/pipelines/${encodeURIComponent(name)}`;
      if (store.whole && store.whole.name !== name) { store.whole = null; store.letters = null; store.open.clear(); store.window = []; }
      try {
        store.whole = (await ask(path)).told; store.missing = null;
        store.window = [...(store.window || []), store.whole.delivery].slice(-60);
        if (store.whole.letters && (!store.letters || now - store.letters.at > 4000 || refresh.again)) {
          try { const { told: listed } = await ask(`${path}/letters?limit=100`); store.letters = { list: listed.letters, more: listed.more, at: now }; } catch (error) { store.letters = { list: store.letters && store.letters.list, error: error.message, at: now }; }
        }
      } catch (error) { if (!error.status) throw error; store.whole = null; store.missing = error.message; }
    }
    draw();
  } catch (error) {
    if (error.status === 401 || error.status === 403) { store.status = null; store.at = 0; store.token = ''; sessionStorage.removeItem('token'); draw(`The host does not take this token: ${error.message}.`); } else if (!store.status && error.status) draw(`${error.message}. ${error.help || ''}`);
  } finally {
    running = false;
    freshness();
    if (refresh.again) { refresh.again = false; refresh(); }
  }
}

const themes = ['system', 'light', 'dark'];
function theme(name) {
  if (name === 'system') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  $('theme').textContent = `Theme: ${name}`;
  localStorage.setItem('theme', name);
}
$('theme').addEventListener('click', () => theme(themes[(themes.indexOf(localStorage.getItem('theme') || 'system') + 1) % 3]));
$('leave').addEventListener('click', () => { store.token = ''; sessionStorage.removeItem('token'); store.status = null; store.at = 0; draw(true); freshness(); });
theme(localStorage.getItem('theme') || 'system');
matchMedia('(max-width: 719px)').addEventListener('change', () => draw());
addEventListener('hashchange', () => { draw(); refresh(); });
setInterval(() => { if (!document.hidden && store.token) refresh(); }, PERIOD);
setInterval(freshness, 1000);
refresh();
