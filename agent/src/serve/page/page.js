'use strict';
// The daemon's stream of events as rows on one axis of time. Everything that comes is written as text.
(() => {
  const CELL = 5, KEEP = 720, NODES = 32;
  const $ = (id) => document.getElementById(id);
  const state = { nodes: [], cells: [], counts: new Map(), status: null, cpu: null, happened: [], log: [], at: 0, columns: 60, fresh: true, lost: false };
  const pad = (n) => String(n).padStart(2, '0');
  const hms = (at) => { const d = new Date(at * 1000); return [d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()].map(pad).join(':'); };
  const clock = (secs) => `${Math.floor(secs / 60)}:${pad(Math.floor(secs % 60))}`;
  const text = (id, value) => { const e = $(id); if (e.textContent !== value) e.textContent = value; };

  // Of a node that probes several paths each is a rhythm of its own.
  const named = (node) => (node.path ? `${node.node} ${node.path}` : String(node.node));

  const happen = (what, words) => {
    state.happened.unshift({ at: state.at, what, words });
    state.happened.length = Math.min(state.happened.length, 50);
  };

  // The cell of now; where something changes within it, the worse counts.
  const cell = () => {
    const at = Math.floor(state.at / CELL) * CELL;
    let last = state.cells[state.cells.length - 1];
    if (!last || last.at !== at) {
      state.cells = state.cells.filter((c) => c.at < at);
      last = { at, probes: [], shares: 0 };
      state.cells.push(last);
      if (state.cells.length > KEEP) state.cells.shift();
    }
    return last;
  };

  // A node's number in the cells; one that no cell names any more is given away.
  const placeOf = (name, current) => {
    const known = state.nodes.indexOf(name);
    if (known >= 0) return known;
    if (state.nodes.length < NODES) return state.nodes.push(name) - 1;
    const used = new Set(state.cells.flatMap((c) => c.probes.map(([node]) => node)));
    const free = state.nodes.findIndex((old, place) => !used.has(place) && !current.includes(old));
    if (free >= 0) state.nodes[free] = name;
    return free;
  };

  const enter = (status) => {
    const before = state.status, now = cell();
    const healthy = status.health.status === 'pass';
    now.health = now.health === false ? false : healthy;
    if (status.nginx && typeof status.nginx.up === 'boolean') now.nginx = now.nginx === false ? false : status.nginx.up;
    const fault = status.fault && !status.fault.overdue ? status.fault.mode : null;
    if (fault) now.fault = fault;
    if ((status.stress || []).length) now.stress = true;
    const counts = new Map(), current = ((status.probes && status.probes.nodes) || []).map(named);
    for (const node of (status.probes && status.probes.nodes) || []) {
      const name = named(node), place = placeOf(name, current);
      const old = state.counts.get(name);
      const count = { probes: node.probes_total ?? node.probes, bad: node.not_ok || 0, missed: (node.missed_total ?? node.missed) + (node.overdue ?? 0) };
      counts.set(name, count);
      if (!old || place < 0) continue;
      const bad = count.bad > old.bad, came = count.probes - old.probes > count.bad - old.bad;
      if (came) now.probes.push([place, 'came']);
      if (bad) now.probes.push([place, 'not_ok']);
      if (count.missed > old.missed) {
        if (!came && !bad) now.probes.push([place, 'missing']);
        happen('node', `${name}: ${count.missed - old.missed} missing`);
      }
    }
    state.counts = counts;
    if (state.fresh) remember(status, before ? Date.parse(before.at) / 1000 : 0);
    else if (before) {
      if ((before.health.status === 'pass') !== healthy) happen('health', `/health says ${healthy ? 200 : 503}: ${cause(status)}`);
      if (!before.fault && status.fault) happen('fault', `${status.fault.mode}, by ${status.fault.by}`);
      if (before.fault && !status.fault) happen('fault', `${before.fault.mode} is over`);
      if (!(before.stress || []).length && (status.stress || []).length) happen('stress', 'begins');
      if ((before.stress || []).length && !(status.stress || []).length) happen('stress', 'is over');
    }
    const { lines, probes } = status.probes || {};
    if (lines !== undefined) {
      const others = lines - probes, last = state.log[state.log.length - 1];
      // The daemon has begun anew, or the clock was set back.
      if (last && (others < last.others || state.at < last.at)) state.log = [];
      state.log.push({ at: state.at, others });
      while (state.log.length > 2 && state.at - state.log[1].at >= 30) state.log.shift();
    }
    state.status = status;
  };

  // Requests a second by the access log, apart from probes; not what may be the agent's own checks alone.
  const traffic = () => {
    const first = state.log[0], last = state.log[state.log.length - 1];
    if (!first || last.at - first.at < CELL) return '';
    const rate = (last.others - first.others) / (last.at - first.at);
    return rate > 0.6 ? `; others than probes: ${rate.toFixed(1)} a second` : '';
  };

  // What happened while this page wasn't open or heard nothing: the daemon remembers it.
  const remember = (status, since) => {
    const told = [];
    for (const change of status.health.history || []) {
      if (change.from) told.push({ at: Date.parse(change.at) / 1000, what: 'health', words: `/health says ${change.to === 'pass' ? 200 : 503}: ${change.detail}` });
    }
    state.cells.reduce((before, c) => {
      if (!before.fault && c.fault) told.push({ at: c.at, what: 'fault', words: c.fault });
      if (before.fault && !c.fault) told.push({ at: c.at, what: 'fault', words: `${before.fault} is over` });
      if (!before.stress && c.stress) told.push({ at: c.at, what: 'stress', words: 'begins' });
      if (before.stress && !c.stress) told.push({ at: c.at, what: 'stress', words: 'is over' });
      return c;
    }, {});
    state.happened = [...state.happened, ...told.filter((h) => h.at > since)].sort((a, b) => b.at - a.at).slice(0, 50);
    state.fresh = false;
  };

  // The hour that the daemon has kept; what was seen here before it began stays.
  const join = (history) => {
    const nodes = history.nodes.slice(0, NODES);
    const places = state.nodes.map((name) => {
      const place = nodes.indexOf(name);
      return place < 0 && nodes.length < NODES ? nodes.push(name) - 1 : place;
    });
    const first = history.cells.length ? history.cells[0].at : Infinity;
    const moved = (probes) => probes.map(([node, mark]) => [places[node], mark]).filter(([place]) => place >= 0);
    const older = state.cells.filter((c) => c.at < first).map((c) => ({ ...c, probes: moved(c.probes) }));
    state.cells = [...older, ...history.cells.map((c) => ({ probes: [], shares: 1, ...c }))].slice(-KEEP);
    state.nodes = nodes;
    state.counts.clear();
    state.fresh = true;
  };

  const cause = (status) => {
    const failing = status.health.checks.filter((c) => c.status === 'fail').map((c) => `${c.name}: ${c.detail}`);
    if (failing.length) return failing.join('; ');
    if (status.health.draining) return 'draining before its end';
    const nginx = status.health.checks.find((c) => c.name === 'nginx');
    return nginx ? `${nginx.name}: ${nginx.detail}` : '';
  };

  // One strip of marks: shapes, so that it can be read without colours.
  const SVG = 'http://www.w3.org/2000/svg';
  const shape = (svg, name, attributes) => {
    const e = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    svg.append(e);
  };
  const strip = (mark) => {
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', `0 0 ${state.columns * 10} 20`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    const end = Math.floor(state.at / CELL) * CELL;
    const by = new Map(state.cells.map((c) => [c.at, c]));
    for (let n = 0; n < state.columns; n += 1) {
      const c = by.get(end - (state.columns - 1 - n) * CELL);
      const what = c && mark(c), x = n * 10;
      if (what === undefined || what === null || what === false) continue;
      if (typeof what === 'number') shape(svg, 'rect', { x, y: 20 - Math.max(1, what / 5), width: 9, height: Math.max(1, what / 5), fill: 'var(--bar)' });
      else if (what === 'good') shape(svg, 'rect', { x: x + 3, y: 8, width: 4, height: 4, fill: 'var(--good)' });
      else if (what === 'bad') shape(svg, 'path', { d: `M${x + 1} 3L${x + 9} 17M${x + 9} 3L${x + 1} 17`, stroke: 'var(--bad)', 'stroke-width': 2.5 });
      else if (what === 'missing') shape(svg, 'rect', { x: x + 1, y: 16, width: 8, height: 3, fill: 'var(--bad)' });
      else shape(svg, 'rect', { x, y: 3, width: 10, height: 14, fill: what === 'lasted' ? 'var(--bad)' : `var(--${what})` });
    }
    return svg;
  };
  const held = (value) => value === undefined || value === null ? null : value ? 'good' : 'bad';

  const row = (label, mark, words, tone) => {
    const tr = document.createElement('tr'), th = document.createElement('th');
    th.scope = 'row';
    th.textContent = label;
    const marks = document.createElement('td'), now = document.createElement('td');
    marks.append(strip(mark));
    now.textContent = words;
    if (tone) now.className = tone;
    tr.append(th, marks, now);
    return tr;
  };

  const rows = (status) => {
    const all = [];
    const cpu = state.cpu;
    all.push(row('CPU, host', (c) => c.busy_pct, cpu ? `${cpu.busy_pct.toFixed(0)} % busy, ${cpu.steal_pct.toFixed(0)} % stolen${status.cpu.baseline_pct ? `, baseline ${status.cpu.baseline_pct} %` : ''}` : ''));
    const stress = (status.stress || [])[0];
    const left = stress && stress.remaining_ms != null ? `, ${clock(stress.remaining_ms / 1000)} left` : '';
    all.push(row('stress', (c) => c.stress && 'warn', stress ? `${stress.target_pct ?? stress.load_pct ?? ''} %${left}, by ${stress.who}` : 'none'));
    for (const node of (status.probes && status.probes.nodes) || []) {
      const place = state.nodes.indexOf(named(node));
      const worst = (c) => {
        const of = (c.probes || []).filter(([n]) => n === place).map(([, m]) => m);
        return of.includes('missing') ? 'missing' : of.includes('not_ok') ? 'bad' : of.includes('came') ? 'good' : null;
      };
      const words = node.missed ? `${node.missed} missing` : node.interval_p50_ms ? `every ${(node.interval_p50_ms / 1000).toFixed(2)} s` : `${node.probes} probes`;
      all.push(row(named(node), worst, words, node.on_time === false ? 'bad' : ''));
    }
    if (!((status.probes && status.probes.nodes) || []).length) all.push(row('probes', () => null, (status.probes && status.probes.explanation) || 'none'));
    const up = status.nginx && status.nginx.up;
    all.push(row('nginx check', (c) => held(c.nginx), up === null || up === undefined ? 'not asked' : (up ? 'answers' : 'fails') + traffic(), up === false ? 'bad' : ''));
    // Checks that aren't well, and don't have a row of their own.
    for (const check of status.health.checks) {
      const bad = check.status === 'fail';
      if ((bad || check.status === 'warn') && !['nginx', 'fault', 'draining'].includes(check.name)) all.push(row(check.name, () => null, check.detail, bad ? 'bad' : 'warn'));
    }
    const healthy = status.health.status === 'pass';
    all.push(row('/health says', (c) => held(c.health), healthy ? '200' : '503', healthy ? '' : 'bad'));
    const fault = status.fault;
    all.push(row('fault', (c) => c.fault && 'lasted', fault ? `${fault.mode}, ${Math.round(fault.remaining_ms / 1000)} s left` : 'none', fault ? 'warn' : ''));
    return all;
  };

  const utilization = () => {
    const minutes = new Map();
    for (const c of state.cells) {
      if (c.busy_pct === undefined || c.busy_pct === null) continue;
      const start = Math.floor(c.at / 60) * 60, m = minutes.get(start) || [0, 0];
      minutes.set(start, [m[0] + c.busy_pct, m[1] + 1]);
    }
    return [...minutes].slice(-15).map(([start, [sum, n]]) => {
      const li = document.createElement('li'), time = document.createElement('time');
      time.textContent = hms(start).slice(0, 5);
      const whole = n === 12 && state.at >= start + 60;
      li.append(time, ` ${(sum / n).toFixed(1)} %${whole ? '' : ' (not all of it seen)'}`);
      return li;
    });
  };

  // At most once a frame: not at all while nobody sees it, and once for many events that come together.
  let due = false;
  const draw = () => {
    if (!due) requestAnimationFrame(() => { due = false; paint(); });
    due = true;
  };
  const paint = () => {
    const status = state.status;
    if (!status) return;
    const healthy = status.health.status === 'pass';
    text('word', healthy ? 'HEALTHY' : 'UNHEALTHY');
    $('word').className = healthy ? 'good' : 'bad';
    text('cause', cause(status).replace(/ in [\d.]+ ms/, ''));
    document.title = `${healthy ? 'HEALTHY' : 'UNHEALTHY'} · agent watch`;
    const i = status.instance || {};
    text('who', [i.instance, i.zone, i.type, i.lifecycle_state].filter((v) => v && v !== 'none' && v !== 'unknown').join(' · '));
    text('minutes', `${state.columns * CELL / 60} minutes`);
    text('cell', `${CELL} s`);
    $('rows').replaceChildren(...rows(status));
    $('utilization').replaceChildren(...utilization());
    $('happened').replaceChildren(...state.happened.map((h) => {
      const li = document.createElement('li'), time = document.createElement('time');
      time.textContent = hms(h.at);
      li.append(time, `${h.what}: ${h.words}`);
      return li;
    }));
  };

  const listen = () => {
    const events = new EventSource('/events');
    events.addEventListener('history', (e) => {
      join(JSON.parse(e.data));
    });
    events.addEventListener('cpu', (e) => {
      state.cpu = JSON.parse(e.data);
      const now = cell();
      now.busy_pct = ((now.busy_pct ?? 0) * now.shares + state.cpu.busy_pct) / (now.shares + 1);
      now.shares += 1;
    });
    events.addEventListener('status', (e) => {
      const status = JSON.parse(e.data);
      state.at = Date.parse(status.at) / 1000;
      if (state.lost) happen('daemon', 'answers again');
      state.lost = false;
      $('lost').hidden = true;
      enter(status);
      draw();
    });
    events.addEventListener('error', () => {
      text('lost-at', state.at ? `${hms(state.at)} UTC` : 'before this page was opened');
      $('lost').hidden = false;
      if (!state.lost && state.status) {
        happen('daemon', 'does not answer');
        draw();
      }
      state.lost = true;
      // A stream that was refused isn't asked for again by the browser.
      if (events.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
    });
  };

  const wider = [36, 60, 120, 240, 720];
  const span = (by) => () => {
    const place = wider.indexOf(state.columns) + by;
    state.columns = wider[Math.min(Math.max(place, 0), wider.length - 1)];
    draw();
  };
  $('more').addEventListener('click', span(1));
  $('less').addEventListener('click', span(-1));
  state.at = Date.now() / 1000;
  listen();
})();
