// What a response used: read as it passes, handed to authz after its end. For njs >= 0.9.9.
//
// Nothing here delays or changes a byte. The filter gives each buffer on before it looks at it; what it keeps is
// bounded, and read only once the response is over. Reports wait in shared memory until authz has answered for
// them, however long it is away; authz takes a repeated one once.

const JSON_MOST = 1 << 20; // bytes of a JSON answer, or of one event, that are kept
const JSON_TAIL = 16 << 10; // of a longer answer at least this much of its end, where model servers put the usage
const USAGE_MOST = 2048; // characters; a longer usage is none
const EVENTS_MERGED = 64; // events with usage merged one by one; of the later ones the last counts
const CANDIDATES = 8; // places in the end of a long answer that are tried
const BATCH = 1000; // reports that authz takes at once
const RUN = 9700, PAUSE = 100; // ms; nginx.conf starts a run every 10 s

const REFUSED = JSON.stringify({
    error: {
        message: 'The model server refused the gateway: its own credential there is wrong. Tell the operator.',
        type: 'server_error',
        code: 'upstream_auth_failed',
        param: null,
    },
});

const KEY = Buffer.from('"usage"');
const NEWLINE = 10, TAB = 9, SPACE = 32, COLON = 58, BRACE = 123;

// Of one request: nginx gives each its own copy of this module. njs collects no garbage before a request is over,
// so what runs for each buffer makes no objects.
let kind = null; // of the response: 'events', 'json' or 'other'
let replaced = false; // whether the client is told something else than the model server answered
let passed = false, bytes = 0; // whether its body passed here; and how much of it so far
let held = null, length = 0; // the JSON answer, or an unfinished line of events; and how much of it there is
let whole = true; // nothing was dropped from what is held
let merged = null, events = 0; // usage of the events so far, and how many of them had one
let latest = null, latestLength = 0; // the last event with usage, once they are too many to merge
let text = null; // the usage in the end

// js_header_filter: a model server that answers 401 refuses our own credential; the client's was good.
function refused(r) {
    if (r.status === 401 && r.variables.authz_verdict === 'allow') { // one of authz's own passes here too
        r.status = 502;
        r.headersOut['Content-Type'] = 'application/json';
        delete r.headersOut['Content-Encoding'];
        r.headersOut['Content-Length'] = String(REFUSED.length);
        replaced = true;
    }
}

// js_body_filter
function tee(r, data, flags) {
    if (replaced) {
        if (flags.last) {
            r.sendBuffer(REFUSED, flags);
        }
        return;
    }
    r.sendBuffer(data, flags);
    passed = true;
    if (data.length) {
        kind = kind || kindOf(r);
        bytes += data.length;
        if (kind === 'events') {
            readEvents(data);
        } else if (kind === 'json') {
            hold(data, 0, data.length, JSON_TAIL);
        }
    }
}

function kindOf(r) {
    const type = (r.headersOut['Content-Type'] || '').toLowerCase();

    if (r.headersOut['Content-Encoding']) {
        return 'other';
    }
    return type.startsWith('text/event-stream') ? 'events' : type.includes('json') ? 'json' : 'other';
}

// Keep data[from..to]. Past JSON_MOST only the last `tail` bytes of what there was stay.
function hold(data, from, to, tail) {
    if (to - from > JSON_MOST - JSON_TAIL) {
        from = to - (JSON_MOST - JSON_TAIL);
        whole = false;
    }
    if (length + to - from > JSON_MOST) {
        const kept = Math.min(length, tail);
        held.copy(held, 0, length - kept, length);
        length = kept;
        whole = false;
    }
    const needed = length + to - from;

    if (!held || needed > held.length) {
        const larger = Buffer.alloc(Math.min(JSON_MOST, Math.max(4096, 2 * needed)));
        if (held) {
            held.copy(larger, 0, 0, length);
        }
        held = larger;
    }
    data.copy(held, length, from, to);
    length += to - from;
}

// https://html.spec.whatwg.org/multipage/server-sent-events.html, events of one `data` line, as all model servers send.
function readEvents(data) {
    let start = 0;

    if (length) { // a line that began in an earlier buffer
        const end = data.indexOf(NEWLINE);
        hold(data, 0, end < 0 ? data.length : end, 0);
        if (end < 0) {
            return;
        }
        if (whole) {
            readLines(held, 0, length);
        }
        length = 0;
        whole = true;
        start = end + 1;
    }
    const last = data.lastIndexOf(NEWLINE) + 1;
    if (last > start) {
        readLines(data, start, last);
        start = last;
    }
    if (start < data.length) {
        hold(data, start, data.length, 0);
    }
}

// Whole lines, most of which have no usage or a null one.
function readLines(data, from, to) {
    let at = from;

    while ((at = data.indexOf(KEY, at)) >= 0 && at < to) {
        if (!beginsObject(data, at + KEY.length, to)) {
            at += KEY.length;
            continue;
        }
        const start = Math.max(from, data.lastIndexOf(NEWLINE, at) + 1), end = data.indexOf(NEWLINE, at);
        at = end < 0 || end > to ? to : end;
        if (data[start] === 100 && data[start + 1] === 97 && data[start + 2] === 116 && data[start + 3] === 97
            && data[start + 4] === COLON) { // data:
            takeEvent(data, start + 5, at);
        }
    }
}

// Whether what follows a key is an object.
function beginsObject(data, at, to) {
    let colon = false;

    for (; at < to && at < data.length; at++) {
        const byte = data[at];
        if (byte === BRACE) {
            return colon;
        }
        if (byte === COLON && !colon) {
            colon = true;
        } else if (byte !== SPACE && byte !== TAB) {
            return false;
        }
    }
    return false;
}

function takeEvent(data, start, end) {
    if (++events <= EVENTS_MERGED) {
        merge(data.toString('utf8', start, end));
        return;
    }
    if (!latest || end - start > latest.length) {
        latest = Buffer.alloc(2 * (end - start));
    }
    latestLength = data.copy(latest, 0, start, end);
}

// The usage of one event over that of the earlier ones: OpenAI `usage`, Anthropic also `message.usage`, Responses
// `response.usage`. Only keys count: whatever stands in a text is text.
function merge(text) {
    let event;
    try {
        event = JSON.parse(text);
    } catch (e) {
        return;
    }
    if (!isObject(event)) {
        return;
    }
    [event, event.message, event.response].forEach(holder => {
        if (isObject(holder) && isObject(holder.usage)) {
            merged = merged || {};
            Object.keys(holder.usage).forEach(key => {
                if (holder.usage[key] !== null) {
                    merged[key] = holder.usage[key];
                }
            });
        }
    });
}

function isObject(value) {
    return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// The usage that the response told, null where it told none.
function usageOf() {
    if (kind === 'json') {
        return length ? usageAtTheEnd() || (whole ? usageOfWhole() : null) : null;
    }
    if (kind === 'events') {
        if (length && whole) { // the last line lacks its end
            readLines(held, 0, length);
        }
        if (latest) {
            merge(latest.toString('utf8', 0, latestLength));
        }
        return merged;
    }
    return null;
}

// A `"usage"` from which the rest of the document closes one object, and nothing more, is a key of that document.
function usageAtTheEnd() {
    const tail = held.toString('utf8', Math.max(0, length - JSON_TAIL), length);
    let at = tail.length;

    for (let tried = 0; tried < CANDIDATES; tried++) {
        at = tail.lastIndexOf('"usage"', at - 1);
        if (at <= 0) {
            break;
        }
        if (/[{,]\s*$/.test(tail.slice(Math.max(0, at - 64), at)) && /^\s*:\s*\{/.test(tail.slice(at + 7, at + 71))) {
            try {
                return JSON.parse('{' + tail.slice(at)).usage;
            } catch (e) { // deeper inside
            }
        }
    }
    return null;
}

function usageOfWhole() {
    if (held.indexOf(KEY) < 0) {
        return null;
    }
    try {
        const usage = JSON.parse(held.toString('utf8', 0, length)).usage;
        return isObject(usage) ? usage : null;
    } catch (e) {
        return null;
    }
}

// js_set, read when the access log is written: the usage as JSON, empty where there is none.
function usage() {
    if (text === null) {
        let found = null;
        try {
            found = usageOf();
        } catch (e) { // nothing that a model server sends may keep a request from being reported
        }
        text = found ? JSON.stringify(found) : '';
        text = text.length <= USAGE_MOST ? text : '';
    }
    return text;
}

// js_set: bytes of the response's body; where it did not pass here, those that nginx counted.
function responseBytes(r) {
    return String(passed ? bytes : r.variables.body_bytes_sent);
}

// js_set, first read when the access log is written, after an abort too: put the report down. `kept`; `full` where
// there is no room, and then only the log knows; empty where there is nothing to report.
function report(r) {
    const v = r.variables;

    if (!v.authz_reservation || !(v.authz_gateway_token || v.authz_reports)) { // authz takes none without a proof
        return '';
    }
    const told = {
        reservation: v.authz_reservation,
        usage: usage() ? JSON.parse(usage()) : null,
        status: Number(v.status),
        reached: v.authz_reached === 'true',
        aborted: v.authz_aborted === 'true',
        streamed: v.authz_streamed === 'true',
        response_bytes: Number(responseBytes(r)),
        duration_ms: Math.round(Number(v.request_time) * 1000),
    };
    try {
        const peer = v.authz_peer.split(', ').pop();
        remember('token', v.authz_gateway_token);
        remember('reports', v.authz_reports || '');
        remember('peer', peer);
        ngx.shared.authz_reports.set(told.reservation, peer + ' ' + JSON.stringify(told));
        return 'kept';
    } catch (e) {
        return 'full';
    }
}

function remember(name, value) {
    if (ngx.shared.authz_gateway.get(name) !== value) {
        ngx.shared.authz_gateway.set(name, value);
    }
}

// js_periodic, in one worker. nginx ends a run that still lasts when the next is due, and with it a report under way.
// So runs are long and look often, and the last look leaves time; what is cut all the same is told again at once.
async function deliver() {
    const end = Date.now() + RUN;

    while (Date.now() < end) {
        await deliverAll();
        await new Promise(goOn => setTimeout(goOn, PAUSE));
    }
}

// Hand over what waits, to the authz that decided, else to the one that last answered.
async function deliverAll() {
    const gateway = ngx.shared.authz_gateway, reports = ngx.shared.authz_reports;
    let waiting;

    do {
        waiting = reports.items(BATCH);
        const byPeer = {};
        waiting.forEach(item => {
            const space = item[1].indexOf(' '), peer = item[1].slice(0, space);
            byPeer[peer] = byPeer[peer] || [];
            byPeer[peer].push({key: item[0], text: item[1].slice(space + 1)});
        });
        for (const peer in byPeer) {
            if (await post(peer, byPeer[peer]) || await post(gateway.get('peer'), byPeer[peer])) {
                byPeer[peer].forEach(each => reports.delete(each.key));
                gateway.delete('failing');
            } else {
                if (gateway.add('failing', 'yes')) { // once, not ten times a second
                    ngx.log(ngx.ERR, 'authz takes no reports of usage; they are kept: ' + reports.size());
                }
                return;
            }
        }
    } while (waiting.length === BATCH);
}

async function post(peer, batch) {
    const gateway = ngx.shared.authz_gateway, reports = gateway.get('reports');
    const headers = {'Content-Type': 'application/json'};

    if (reports) { // nginx itself knows the way by TLS, and shows what authz knows it by
        headers['X-Authz-Peer'] = peer;
        headers['X-Authz-Secret'] = secret();
    } else {
        headers['X-Authz-Gateway-Token'] = gateway.get('token') || '';
    }
    try {
        const answer = await ngx.fetch('http://' + (reports || peer) + '/v1/usage', {
            method: 'POST',
            headers: headers,
            body: '[' + batch.map(each => each.text).join(',') + ']',
        });
        if (answer.status === 400 || answer.status === 413) { // what stands in one report costs no other
            const half = batch.length >> 1;
            if (!half) {
                ngx.log(ngx.ERR, 'authz cannot read a report of usage: it is lost');
            }
            return !half || await post(peer, batch.slice(0, half)) && await post(peer, batch.slice(half));
        }
        return answer.status === 200 && Array.isArray((await answer.json()).results);
    } catch (e) {
        return false;
    }
}

// What only the workers of this nginx know.
function secret() {
    const gateway = ngx.shared.authz_gateway;

    if (!gateway.get('secret')) {
        gateway.add('secret', Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('hex'));
    }
    return gateway.get('secret');
}

// js_set: whether it is `post` that asks.
function isOwn(r) {
    return r.headersIn['X-Authz-Secret'] === secret() ? 'yes' : '';
}

export default {isOwn, refused, tee, usage, report, responseBytes, deliver};
